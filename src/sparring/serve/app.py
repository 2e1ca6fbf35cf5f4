"""The application: rooms, sessions, headers, and errors in a sentence.

app = make_app(open_site([Path("runs/mine")], votes=None, tokens=False), cookie="sparring-8765")
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sparring.serve import managing, templates, trying, voting, watching
from sparring.serve.generating import Generator
from sparring.serve.security import PART, Headers
from sparring.serve.site import Site, vote_places
from sparring.serve.talks import Talks
from sparring.serve.templates import page
from sparring.serve.watch import Watched
from sparring.votes.database import Unavailable

SESSION_SECONDS = 30 * 24 * 3600


def make_app(
    site: Site, cookie: str = "sparring", secure: bool = False, generator: Generator | None = None
) -> Starlette:
    """The pages of a site. `secure`: the cookie travels by HTTPS only; `generator`: who answers in the Try room."""
    generator = generator or Generator()

    @contextlib.asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        yield
        generator.close()

    session = Middleware(
        SessionMiddleware,
        secret_key=site.key,
        session_cookie=cookie,
        max_age=SESSION_SECONDS,
        same_site="lax",  # strict would lose the session on the way in from a link in a message
        https_only=secure,
    )
    app = Starlette(
        routes=[*templates.ROUTES, *watching.ROUTES, *voting.ROUTES, *trying.ROUTES, *managing.ROUTES],
        middleware=[Middleware(Headers, site=site), session],
        lifespan=running,
        exception_handlers={HTTPException: _refused, Unavailable: _down, Exception: _broken},
    )
    app.state.site = site
    app.state.talks, app.state.generator = Talks(), generator
    # A folder whose votes lie elsewhere, or nowhere, shows none.
    ballots = [site.ballot if any(vote_places(folder)) else None for folder in site.folders]
    app.state.watched = [Watched(folder, ballot) for folder, ballot in zip(site.folders, ballots, strict=True)]
    return app


def _answer(request: Request, status: int, said: str, headers: dict[str, str] | None = None) -> Response:
    if PART in request.headers:
        return PlainTextResponse(said, status, headers)
    answer = page(request, "error.html", status=status, said=said)
    answer.headers.update(headers or {})
    return answer


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "There is no such page here.", 405: "This page takes no such request."}
    detail = error.detail if error.detail not in ("Not Found", "Method Not Allowed") else said[error.status_code]
    return _answer(request, error.status_code, detail, dict(error.headers or {}))


def _down(request: Request, error: Exception) -> Response:
    logging.getLogger("sparring").warning("note  %s", error)
    said = "The database of votes does not answer. Nothing was stored; what was stored before is kept. Try again soon."
    return _answer(request, 503, said, {"retry-after": "5"})


def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours, which the server logs with its traceback."""
    return _answer(request, 500, "Something went wrong here. Nothing was stored.")
