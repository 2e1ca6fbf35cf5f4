"""Servers for a real browser (`browser.py`), and what a page must not do in it."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import uvicorn

from sparring.serve.app import make_app
from sparring.serve.generating import Generator
from sparring.serve.site import Site
from sparring.serve.starting import _bound


class Server:
    """A site on a port of its own, which can stop and come back."""

    def __init__(self, site: Site, generator: Generator | None = None) -> None:
        self.site, self.generator, self.port, self._server = site, generator, 0, None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        listening = _bound("127.0.0.1", self.port)
        self.port = listening.getsockname()[1]
        app = make_app(self.site, generator=self.generator)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(timeout=20)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0


class Watcher:
    """What a page must not do: dialogs, requests to elsewhere, faults."""

    def __init__(self, page: Any, home: str) -> None:
        self.wrong: list[str] = []
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: self.wrong.append(f"fault {error}"))
        page.on("request", lambda r: None if r.url.startswith((home, "data:")) else self.wrong.append(r.url))
        page.on("console", lambda m: self.wrong.append(m.text) if "Content Security Policy" in m.text else None)
        page.on("popup", lambda popup: self.wrong.append("popup"))
