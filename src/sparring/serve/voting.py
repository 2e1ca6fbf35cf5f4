"""The Vote room: one pair at a time, blind; and the door where a person says who they are.

A page holds the question, the prompt, two answers and nothing that tells whose they are: no name, round, place in a
file or length. Every button is a form of its own, so that voting works without a script; with it (`serve.js`) a vote
is sent again until the server says that it is on disk. Leaves out: rules (`votes/ballot.py`).
"""

from __future__ import annotations

import time

from starlette.concurrency import run_in_threadpool as in_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sparring.serve.security import PART, Pace, allowed, check_csrf, enter, form, seconds_of, site_of
from sparring.serve.templates import page
from sparring.votes.ballot import Ballot
from sparring.votes.counting import Standing
from sparring.votes.items import Late, NotShown, Showing
from sparring.votes.people import Voter, by_token, named_voter

STANDING_SECONDS = 1.0
PRELOAD_FROM = 20
"""open pairs; with fewer, one that waits in a browser would be missed by another voter"""
VOTES, ENTRIES = Pace(240, 60.0), Pace(20, 60.0)
"""per person; per address, of those that failed to enter"""


async def show(request: Request) -> Response:
    """The pair that waits for this voter."""
    voter = await allowed(request, "voter", "owner")
    ballot = site_of(request).ballot
    if ballot is None or not site_of(request).asks:
        return page(request, "nothing.html")
    if voter is None:
        return page(request, "name.html", to="/vote")
    return await _room(request, ballot, voter, await _next(ballot, voter))


async def vote(request: Request) -> Response:
    """Store a vote, and show the next pair."""
    ballot, voter, fields = await _posted(request)
    said = ""
    try:
        what = fields.get("showing", ""), fields.get("verdict", ""), seconds_of(fields)
        await in_thread(ballot.vote, voter.id, *what)
    except (Late, NotShown) as error:
        said = f"Not stored: {error}"
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    return await _after(request, ballot, voter, None, said, ahead=fields.get("ahead"))


async def following(request: Request) -> Response:
    """The pair after the one on the screen, which is this voter's from now on; nothing where few are left."""
    voter, ballot = await allowed(request, "voter", "owner"), site_of(request).ballot
    if voter is None or ballot is None or (await _standing(request, ballot, fresh=False)).open < PRELOAD_FROM:
        return Response(status_code=204)
    showing = await in_thread(ballot.next_showing, voter.id, request.query_params.get("after", ""))
    if showing is None:
        return Response(status_code=204)
    return await _room(request, ballot, voter, showing)


async def undo(request: Request) -> Response:
    """Take back the last vote, and show its pair again."""
    ballot, voter, _ = await _posted(request)
    try:
        return await _after(request, ballot, voter, await in_thread(ballot.undo, voter.id), "Taken back.")
    except Late as error:
        return await _after(request, ballot, voter, None, f"Not taken back: {error}")


async def name(request: Request) -> Response:
    """Begin a session by a name, on a server that only this machine reaches."""
    site, fields = site_of(request), await form(request)
    check_csrf(request, fields)
    to = "/try" if fields.get("to") == "/try" else "/vote"
    if site.tokens:
        raise HTTPException(403, "Names are enough on a server without --host only. Open your link.")
    try:
        voter = await in_thread(lambda: named_voter(site.made_database(), fields.get("name", "")))
    except ValueError as error:
        return page(request, "name.html", status=400, error=str(error), to=to)
    enter(request, voter)
    return RedirectResponse(to, 303)


async def link(request: Request) -> Response:
    """Begin a session by a token."""
    site, address = site_of(request), request.client.host if request.client else ""
    voter = None if site.database is None else await in_thread(by_token, site.database, request.path_params["token"])
    if voter is None:
        ENTRIES.check(address)
        raise HTTPException(401, "This link is not known. It may have been revoked: ask for a new one.")
    enter(request, voter)
    return RedirectResponse("/vote" if voter.role == "voter" else "/", 303)


async def leave(request: Request) -> Response:
    """End the session."""
    check_csrf(request, await form(request))
    request.session.clear()
    return page(request, "left.html")


async def _posted(request: Request) -> tuple[Ballot, Voter, dict[str, str]]:
    """Where the votes are, who posted a form, and its fields, all checked."""
    fields, voter = await form(request), await allowed(request, "voter", "owner")
    check_csrf(request, fields)
    ballot = site_of(request).ballot
    if voter is None or ballot is None:
        raise HTTPException(401, "The session has ended. Load the page again; nothing was stored.")
    VOTES.check(voter.id)
    return ballot, voter, fields


async def _after(
    request: Request, ballot: Ballot, voter: Voter, showing: Showing | None, said: str, ahead: str | None = None
) -> Response:
    """The next page, or its inside for our script; where that shows the next pair already, only the count."""
    if PART not in request.headers:
        request.session["said"] = said
        return RedirectResponse("/vote", 303)
    showing = showing or await _next(ballot, voter)
    inside = "counted.html" if showing is not None and showing.id == ahead else "pair.html"
    return await _room(request, ballot, voter, showing, said, inside)


async def _next(ballot: Ballot, voter: Voter) -> Showing | None:
    return await in_thread(ballot.next_showing, voter.id)


async def _standing(request: Request, ballot: Ballot, fresh: bool) -> Standing:
    """How far all are, a second old at most: it counts every item, which fifty voters at once need not do each."""
    at, standing = getattr(request.app.state, "standing", (0.0, None))
    if fresh or standing is None or time.monotonic() - at > STANDING_SECONDS:
        standing = await in_thread(ballot.standing)
        request.app.state.standing = (time.monotonic(), standing)
    return standing


async def _room(
    request: Request,
    ballot: Ballot,
    voter: Voter,
    showing: Showing | None,
    said: str = "",
    inside: str = "pair.html",
) -> Response:
    standing = await _standing(request, ballot, fresh=showing is None)
    mine = await in_thread(ballot.votes_of, voter.id)
    said = said or request.session.pop("said", "")
    template = inside if PART in request.headers else "vote.html"
    return page(request, template, showing=showing, standing=standing, mine=mine, said=said, voter=voter)


ROUTES = [
    Route("/vote", show),
    Route("/vote", vote, methods=["POST"]),
    Route("/vote/next", following),
    Route("/undo", undo, methods=["POST"]),
    Route("/name", name, methods=["POST"]),
    Route("/enter/{token}", link),
    Route("/leave", leave, methods=["POST"]),
]
