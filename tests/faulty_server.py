"""An OpenAI-compatible server that misbehaves on demand: a script of faults, then sensible answers."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], Any]


def completion(text: str | None, finish: str = "stop", top: dict[str, float] | None = None) -> dict[str, Any]:
    """A chat completion; `top` gives log-probabilities of the last token."""
    logprobs = None
    if top is not None:
        alternatives = [{"token": t, "logprob": p, "bytes": None} for t, p in top.items()]
        logprobs = {
            "content": [{**alternatives[0], "token": max(top, key=lambda t: top[t]), "top_logprobs": alternatives}]
        }
    choice = {"index": 0, "finish_reason": finish, "logprobs": logprobs}
    choice["message"] = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "served-1",
        "choices": [choice],
        "usage": usage,
    }


def dripping(handler: BaseHTTPRequestHandler, headers: bool) -> None:
    """A byte every 20 ms for five seconds: of the body, or of a header."""
    start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    handler.wfile.write(start + (b"x-slow: " if headers else b"content-length: 1000\r\n\r\n"))
    for _ in range(250):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A body without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        handler.wfile.write(b" " * 100_000)


class Faulty:
    """Each request takes the next fault, or `answer(request)` when none is left."""

    def __init__(self) -> None:
        self.faults: list[Any] = []
        self.answer: Answer = lambda request: completion("A")
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.url = ""
        self._lock = threading.Lock()

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self._lock:
            self.requests.append(body)
            self.keys.append(handler.headers.get("authorization", ""))
            reply = self.faults.pop(0) if self.faults else self.answer(body)
        if callable(reply):  # writes what it likes
            reply(handler)
            return
        status, headers, payload = reply if isinstance(reply, tuple) else (200, {}, reply)
        if payload == "hang":
            time.sleep(0.6)
            return
        raw = payload.encode() if isinstance(payload, str) else payload
        raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
        handler.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(raw)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)


@contextlib.contextmanager
def serving() -> Iterator[Faulty]:
    """A running server."""
    faulty = Faulty()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                faulty.respond(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    faulty.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield faulty
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
