"""One chat request over HTTP, bounded in time and size; proxies of the environment are checked before any work.

`timeout` bounds the whole answer, from looking the host up to the last byte: a server that sends a byte at a time
cannot hold a request for longer. A body is read up to a limit, compressed or not, and then made plain JSON
(`completions.py`). Leaves out: retrying, waiting and paying (`endpoint.py`).

    chat = ChatClient(key="none", base_url="http://localhost:8000/v1", timeout=60.0, field="oracle")
    completion = chat.create(model="m", messages=[{"role": "user", "content": "A or B?"}], max_tokens=1)
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
import zlib
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from sparring.endpoints.completions import Malformed, standard_reply

LARGEST_BODY = 64 * 2**20
"""bytes of a reply; 8,192 tokens with five alternatives each come to about 30 MB"""
MOST_REDIRECTS = 5
_REPLACED = ("content-encoding", "content-length", "content-type", "transfer-encoding")


class ChatClient:
    """Asks one endpoint; any number of threads may call `create` together."""

    def __init__(self, key: str, base_url: str | None, timeout: float, field: str) -> None:
        """`field`: the section of the recipe that messages name.

        Raises:
            ValueError: openai is not installed, or the environment's proxy cannot be used.
        """
        try:
            import openai
        except ImportError as error:
            raise ValueError(
                f"{field}: an endpoint needs the package openai. Install it with: pip install 'sparring[judge]'"
            ) from error
        where = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        self._timeout = timeout
        self._openai = openai.AsyncOpenAI(
            api_key=key, base_url=base_url, timeout=timeout, max_retries=0, http_client=_bounded_client(where, field)
        )
        self.base_url = str(self._openai.base_url)
        self.secrets = (*((key,) if key != NO_KEY else ()), *_proxy_passwords())
        self._loop = _event_loop()  # here, as threads that asked for it together could get several
        weakref.finalize(self, _close, self._openai, self._loop)

    def create(self, **request: Any) -> Any:
        """The completion of a chat request, of whatever shape the server gave it.

        Raises:
            TimeoutError: the answer was not whole within `timeout`.
            Malformed: an HTTP success without a reply in it.
            openai.APIError: anything else that the client library tells apart.
        """
        import openai

        task = asyncio.wait_for(self._openai.chat.completions.create(**request), self._timeout)
        try:
            return asyncio.run_coroutine_threadsafe(task, self._loop).result()
        except (openai.APITimeoutError, TimeoutError) as error:
            raise TimeoutError(f"no whole answer within {self._timeout:g} s") from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, Malformed):
                raise error.__cause__ from None
            raise


NO_KEY = "none"
"""sent to endpoints without keys"""


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """The event loop of all clients, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sparring-http", daemon=True).start()
    return loop


def _close(client: Any, loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(client.close(), loop)


def _bounded_client(where: str, field: str) -> Any:
    """An HTTP client whose replies are bounded and in the standard's form."""
    import openai

    class Bounded(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            response = await super().send(request, **{**options, "stream": True})
            try:
                body = await _body(response)
            finally:
                await response.aclose()
            kind = response.headers.get("content-type", "")
            status, body = standard_reply(response.status_code, kind, body)
            headers = [(name, value) for name, value in response.headers.multi_items() if name not in _REPLACED]
            return type(response)(
                status, headers=[*headers, ("content-type", "application/json")], content=body, request=response.request
            )

    settings = {"headers": {"accept-encoding": "identity"}, "max_redirects": MOST_REDIRECTS}
    proxy = _proxy(where)
    try:
        return Bounded(**settings)
    except (ImportError, ValueError) as error:
        if proxy is None:  # a proxy for other addresses
            return Bounded(**settings, trust_env=False)
        scheme, host = urlsplit(proxy).scheme, urlsplit(where).hostname
        install = f"install what it needs (pip install '{_http_package()}[socks]'), " if "socks" in scheme else ""
        raise ValueError(
            f"{field}: the proxy of the environment ({scheme}://...) cannot be used: {str(error).split('.')[0]}. Unset "
            f"ALL_PROXY, HTTP_PROXY and HTTPS_PROXY, {install}or add {host} to NO_PROXY where no proxy is needed."
        ) from None


async def _body(response: Any) -> bytes:
    """The bytes of a reply, decompressed.

    Raises:
        Malformed: too many, or compressed in a way that was not asked for and is unknown here.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise Malformed(f"a reply in the encoding {encoding[:40]!r}, which was not asked for")
    inflate = None if encoding in ("identity", "") else zlib.decompressobj(47)
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += chunk if inflate is None else inflate.decompress(chunk, LARGEST_BODY + 1 - len(body))
        except zlib.error as error:
            raise Malformed(f"a reply that is not what its header says ({encoding}): {error}") from error
        if len(body) > LARGEST_BODY:
            raise Malformed(f"a reply of more than {LARGEST_BODY // 2**20} MB")
    return bytes(body)


def _proxy(where: str) -> str | None:
    """The environment's proxy for an address."""
    parts, proxies = urlsplit(where), getproxies()
    if proxy_bypass(parts.netloc):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def _proxy_passwords() -> tuple[str, ...]:
    return tuple(filter(None, (urlsplit(proxy).password for proxy in getproxies().values())))


def _http_package() -> str:
    """The package that openai speaks HTTP with: httpx, or httpx2 since its version 3."""
    import openai

    return next(base.__module__.partition(".")[0] for base in openai.DefaultAsyncHttpxClient.__mro__[1:])
