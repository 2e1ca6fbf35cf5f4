"""Our templates as answers to a request, and the few files beside them.

Everything in a template is escaped but what `text.as_html` cleaned and our own drawings. Leaves out: what is shown.

    return page(request, "vote.html", showing=showing)
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import sparring.report
from sparring.report.html import environment
from sparring.runtime.layout import title_of
from sparring.serve.security import PART, csrf_token, site_of
from sparring.serve.talks import label
from sparring.serve.text import as_html, plain

PAGES = Path(__file__).parent / "pages"
REPORT = Path(sparring.report.__file__).parent
FILES = {
    "page.css": (REPORT / "page.css", "text/css"),
    "serve.css": (PAGES / "serve.css", "text/css"),
    "serve.js": (PAGES / "serve.js", "text/javascript"),
    "try.js": (PAGES / "try.js", "text/javascript"),
    "icon.svg": (PAGES / "icon.svg", "image/svg+xml"),
}
"""all files that are sent, by name: no other path is looked at"""


@cache
def templates() -> Environment:
    """The templates, with the report's filters."""
    made = environment().overlay(loader=FileSystemLoader([PAGES, REPORT]))
    made.filters |= {"answer": as_html, "plain": plain, "title_of": title_of, "named": label}

    return made


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A template with these values; 304 where our script has it already."""
    site = site_of(request)
    about = {
        "error": "",
        "csrf": csrf_token(request),
        "path": request.url.path,
        "tokens": site.tokens,
        "people": site.database is not None,
        "runs": site.runs,
        "role": request.session.get("role", "owner" if not site.tokens else ""),
    }
    text = templates().get_template(template).render(about | values)
    if PART not in request.headers:
        return HTMLResponse(text, status)
    etag = f'"{hashlib.sha256(text.encode(errors="replace")).hexdigest()[:24]}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"etag": etag})
    return HTMLResponse(text, status, {"etag": etag})


async def static(request: Request) -> Response:
    """One of our own files."""
    found = FILES.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "There is no such file.")
    path, kind = found
    return Response(path.read_bytes(), media_type=kind, headers={"cache-control": "max-age=300"})


ROUTES = [Route("/static/{name}", static)]
