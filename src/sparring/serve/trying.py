"""The Try room: talk to a stored policy, or to two side by side, and say which answer is better.

A message's request stays open until the answer is there; a browser that leaves ends it, and with it the answer. Without
a script the page comes back with the answer; with it (`try.js`) it shows meanwhile how far the answer is. Leaves out:
sampling (`generating.py`), what a conversation is (`talks.py`).
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool as in_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sparring.runtime.layout import is_run
from sparring.serve.generating import Busy, Generator, Job
from sparring.serve.iterates import Iterate, of_run
from sparring.serve.security import PART, Pace, allowed, check_csrf, form, seconds_of, site_of
from sparring.serve.talks import LONGEST_MESSAGE, MOST_TURNS, Talk, Talks
from sparring.serve.templates import page
from sparring.votes.items import Late
from sparring.votes.people import Voter
from sparring.votes.tries import store_try

MESSAGES = Pace(30, 60.0)
"""and preferences, per person"""
LOOK_SECONDS = 0.1
"""between two looks at whether an answer is there and its browser still is"""
PREFERENCES = ("left", "right", "tie", "both_bad")


class Offer(NamedTuple):
    """A run's policies on the page."""

    name: str
    number: int
    iterates: list[Iterate]
    problem: str
    """why none can be read"""


async def room(request: Request) -> Response:
    """Whom to talk to."""
    voter = await allowed(request, "viewer", "voter", "owner")
    offers = await in_thread(_offers, request)
    if not offers:
        return page(request, "notry.html")
    if voter is None:
        return page(request, "name.html", to="/try")
    chosen = [f"{offer.number}:{one.round}" for offer in offers for one in offer.iterates if not one.missing]
    said = request.session.pop("said", "")
    return page(request, "try.html", voter=voter, offers=offers, chosen=chosen, said=said)


async def begin(request: Request) -> Response:
    """Begin a conversation."""
    voter, fields = await _posted(request)
    offers = {offer.number: offer for offer in await in_thread(_offers, request)}
    picked = [_picked(offers, fields.get(side, "")) for side in ("first", "second") if fields.get(side)]
    if not picked:
        raise HTTPException(400, "Choose a policy to talk to.")
    if len(set(picked)) < len(picked):
        raise HTTPException(400, "Choose two different policies, or one alone.")
    talk = _talks(request).begin(voter.id, picked, fields.get("blind") == "yes")
    return RedirectResponse(f"/try/{talk.id}", 303)


async def show(request: Request) -> Response:
    """A conversation as it is now."""
    voter = await allowed(request, "voter", "owner")
    return _shown(request, _own(request, voter), voter)


async def say(request: Request) -> Response:
    """A message: the request stays open until it is answered, and its end stops the answer."""
    voter, fields = await _posted(request)
    talk, message = _own(request, voter), fields.get("message", "").replace("\r\n", "\n").strip()
    if not message:
        raise HTTPException(400, "The message is empty.")
    if len(message) > LONGEST_MESSAGE:
        raise HTTPException(413, f"The message has {len(message):,} characters; at most {LONGEST_MESSAGE:,} go.")
    if talk.waiting or _talks(request).busy(voter.id):
        raise HTTPException(409, "Your message before, here or elsewhere, is not answered yet. Wait, or stop it.")
    talk.settle()
    if len(talk.turns) >= MOST_TURNS:
        raise HTTPException(409, f"This conversation has {MOST_TURNS} turns. Begin a new one.")
    if talk.turns and not talk.turns[-1].order:  # stopped, or failed: it is asked again
        talk.turns.pop()
    try:
        turn = talk.ask(message, _generator(request))
    except Busy as error:
        raise HTTPException(503, str(error), {"retry-after": "30"}) from error
    await _answered(request, turn.job)
    return _after(request, talk, voter)


async def stop(request: Request) -> Response:
    """Stop the answer that is on its way."""
    voter, _ = await _posted(request)
    talk = _own(request, voter)
    if talk.waiting:
        job = talk.turns[-1].job
        _generator(request).cancel(job)
        await _answered(request, job)
    return _after(request, talk, voter)


async def prefer(request: Request) -> Response:
    """Store which answer of the newest turn is better."""
    voter, fields = await _posted(request)
    talk, database = _own(request, voter), site_of(request).database
    talk.settle()
    turn, verdict, said = (talk.turns or [None])[-1], fields.get("verdict", ""), ""
    if turn is not None and turn.id == fields.get("showing") and verdict and turn.verdict == verdict:
        return _after(request, talk, voter)  # sent again after a lost connection
    if turn is None or turn.id != fields.get("showing") or not talk.open_to_choice(turn):
        raise HTTPException(409, "There is nothing to prefer here any more. Nothing was stored; load the page again.")
    if verdict not in PREFERENCES or database is None:
        raise HTTPException(400, f"verdict {verdict!r}: give one of {', '.join(PREFERENCES)}.")
    sides = (turn.shown[0].text, turn.shown[1].text)
    messages, seconds = talk.history(turn), seconds_of(fields)
    tried, turn.verdict = talk.tried(turn), verdict  # before the wait, in which another message may come
    try:
        await in_thread(store_try, database, voter.id, turn.id, messages, sides, tried, verdict, seconds)
    except Late as error:
        said, turn.stored = f"Not stored: {error}", False
    except BaseException:
        turn.verdict = ""
        raise
    return _after(request, talk, voter, said)


# ---- parts ---------------------------------------------------------------------------------------


async def _posted(request: Request) -> tuple[Voter, dict[str, str]]:
    fields, voter = await form(request), await allowed(request, "voter", "owner")
    check_csrf(request, fields)
    if voter is None:
        raise HTTPException(401, "The session has ended. Load the page again; nothing was stored.")
    MESSAGES.check(voter.id)
    return voter, fields


def _offers(request: Request) -> list[Offer]:
    offers = []
    for number, folder in enumerate(site_of(request).folders):
        if is_run(folder):
            try:
                iterates, problem = of_run(folder), ""
            except (ValueError, OSError) as error:
                iterates, problem = [], str(error)
            offers.append(Offer(folder.name or str(folder), number, iterates, problem))
    return offers


def _picked(offers: dict[int, Offer], value: str) -> Iterate:
    number, _, round_ = value.partition(":")
    offer = offers.get(int(number)) if number.isdecimal() and len(number) < 6 else None
    for one in offer.iterates if offer else ():
        if str(one.round) == round_:
            if one.missing:
                raise HTTPException(409, f"{one.title} of {one.run} cannot answer: {one.missing}.")
            return one
    raise HTTPException(404, "There is no such policy here.")


def _own(request: Request, voter: Voter | None) -> Talk:
    talk = None if voter is None else _talks(request).find(request.path_params["talk"], voter.id)
    if talk is None:
        raise HTTPException(
            404, "This conversation is gone: the server was started anew, or it was yours in another session."
        )
    return talk


def _talks(request: Request) -> Talks:
    return request.app.state.talks


def _generator(request: Request) -> Generator:
    return request.app.state.generator


async def _answered(request: Request, job: Job) -> None:
    """Wait until a job is done; it is cancelled where the browser leaves."""
    while not job.done.is_set():
        if not job.cancelled.is_set() and await request.is_disconnected():
            _generator(request).cancel(job)
        await asyncio.sleep(LOOK_SECONDS)


def _after(request: Request, talk: Talk, voter: Voter, said: str = "") -> Response:
    if PART in request.headers:
        return _shown(request, talk, voter, said)
    request.session["said"] = said
    return RedirectResponse(f"/try/{talk.id}#newest", 303)


def _shown(request: Request, talk: Talk, voter: Voter | None, said: str = "") -> Response:
    talk.settle()
    said = said or ("" if PART in request.headers else request.session.pop("said", ""))
    template = "turns.html" if PART in request.headers else "talk.html"
    return page(request, template, talk=talk, voter=voter, said=said, longest=LONGEST_MESSAGE)


ROUTES = [
    Route("/try", room),
    Route("/try", begin, methods=["POST"]),
    Route("/try/{talk}", show),
    Route("/try/{talk}/say", say, methods=["POST"]),
    Route("/try/{talk}/stop", stop, methods=["POST"]),
    Route("/try/{talk}/prefer", prefer, methods=["POST"]),
]
