"""Who may do what: headers of every answer, sessions, CSRF tokens, roles and limits of pace.

Without `--host` the server listens to this machine only and believes names; requests that come under another host's
name are refused, as a foreign page could otherwise reach it (DNS rebinding). With `--host` everybody has a link with a
token of their own. A session is a signed cookie that names the person, looked up anew for each request, so that a
revoked one is out at once. Leaves out: tokens (`votes/people.py`), pages.

    voter = await allowed(request, "voter", "owner"); check_csrf(request, fields)
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparring.serve.site import Site
from sparring.votes.people import Role, Voter, by_id

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
"""of a stored report, a page of its own with its style inside and no script"""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
PART = "x-part"
"""header with which our script asks for the inside of a page"""
LOCAL = ("localhost", "127.0.0.1", "[::1]")
MOST_BODY = 128 * 1024
"""bytes of a form: a vote has some hundred, the longest message in Chinese 72,000"""
LONGEST_SECONDS = 86_400.0
"""that somebody may have looked at a pair"""
KEYS = 10_000
"""people or addresses whose pace is remembered"""


class Headers:
    """Adds the headers to every answer, and refuses foreign names of this host where the server is a local one."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app, self.site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As every ASGI application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if not self.site.tokens and name not in LOCAL:
            await send({"type": "http.response.start", "status": 421, "headers": [(b"content-type", b"text/plain")]})
            said = b"This server listens to its own machine only. Open it as http://127.0.0.1, or start it with --host."
            await send({"type": "http.response.body", "body": said})
            return
        await self.app(scope, receive, with_headers)


class Pace:
    """At most `count` events within `seconds` for one key."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds
        self._times: OrderedDict[object, deque[float]] = OrderedDict()

    def check(self, key: object) -> None:
        """Count an event. Raises HTTPException 429 where there were too many."""
        now = time.monotonic()
        times = self._times.setdefault(key, deque())
        self._times.move_to_end(key)
        while times and now - times[0] > self.seconds:
            times.popleft()
        if len(times) >= self.count:
            wait = int(self.seconds - (now - times[0])) + 1
            raise HTTPException(429, f"Too many requests. Wait {wait} s.", {"retry-after": str(wait)})
        times.append(now)
        while len(self._times) > KEYS:
            self._times.popitem(last=False)


def site_of(request: Request) -> Site:
    """What the server shows."""
    return request.app.state.site


def current(request: Request) -> Voter | None:
    """Who is asking; None for a stranger, and for one whose link was revoked."""
    site, id_ = site_of(request), request.session.get("voter")
    if site.database is None or not isinstance(id_, int):
        return None
    voter = by_id(site.database, id_)
    if voter is None or voter.revoked or (site.tokens and not voter.has_link):
        return None
    # A new link closes the sessions of the old one.
    return voter if request.session.get("since") == voter.since else None


async def allowed(request: Request, *roles: Role) -> Voter | None:
    """Who is asking, with one of these roles. On a local server nobody needs a name to watch, and all may do all.

    Raises:
        HTTPException: 401 for a stranger, 403 for another role.
    """
    voter, site = await run_in_threadpool(current, request), site_of(request)
    if not site.tokens:
        return voter
    if voter is None:
        raise HTTPException(401, "Open the link that you were given. It may have been revoked: ask for a new one.")
    if voter.role not in roles:
        raise HTTPException(403, f"Your link is for a {voter.role}; this page is for {' and '.join(roles)}s.")
    return voter


def enter(request: Request, voter: Voter) -> None:
    """Begin a session; whatever the browser had before is gone."""
    request.session.clear()
    known = {"voter": voter.id, "role": voter.role, "since": voter.since}
    request.session.update({**known, "nonce": secrets.token_urlsafe(16)})


def csrf_token(request: Request) -> str:
    """The token that every form of this session carries."""
    nonce = request.session.setdefault("nonce", secrets.token_urlsafe(16))
    return hmac.new(site_of(request).key.encode(), f"csrf {nonce}".encode(), hashlib.sha256).hexdigest()


def check_csrf(request: Request, fields: dict[str, str]) -> None:
    """Raise HTTPException 403 where a form does not come from our own page of this session."""
    if not hmac.compare_digest(fields.get("csrf", "").encode(), csrf_token(request).encode()):
        raise HTTPException(403, "This page is from another session. Load it again; nothing was stored.")


async def form(request: Request) -> dict[str, str]:
    """The fields of a posted form.

    Raises:
        HTTPException: 413 where it is too long, 400 where it is no form.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise HTTPException(413, "The form is too long. Nothing was stored.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20))
    except ValueError as error:
        raise HTTPException(400, "That is no form. Nothing was stored.") from error


def seconds_of(fields: dict[str, str]) -> float | None:
    """How long somebody looked, as their page says; None where it says nothing that can be."""
    try:
        seconds = float(fields.get("seconds") or "nan")
    except ValueError as error:
        raise HTTPException(400, f"seconds {fields['seconds'][:40]!r} is no number. Nothing was stored.") from error
    return seconds if 0 <= seconds <= LONGEST_SECONDS else None
