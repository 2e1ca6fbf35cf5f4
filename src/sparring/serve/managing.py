"""The owner's page: who may enter, how far people agree, and who presses one side whatever is there."""

from __future__ import annotations

from typing import Any, get_args

from starlette.concurrency import run_in_threadpool as in_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sparring.evaluation.agreement import agreement
from sparring.serve.security import PART, allowed, check_csrf, form, site_of
from sparring.serve.templates import page
from sparring.votes.database import Database
from sparring.votes.people import Role, add_voter, all_voters, revoke
from sparring.votes.records import asked_for, read_records


async def people(request: Request) -> Response:
    """Everybody with their measures."""
    await allowed(request, "owner")
    return await _page(request)


async def add(request: Request) -> Response:
    """Let somebody in; the link is shown once."""
    fields = await _posted(request)
    role: Any = fields.get("role", "")
    try:
        token = await in_thread(add_voter, _database(request), fields.get("name", ""), role)
    except ValueError as error:
        return await _page(request, status=400, said=str(error))
    name, link = fields["name"].strip(), str(request.base_url) + f"enter/{token}"
    return await _page(request, said=f"Give this link to {name}; it is shown only now:", link=link)


async def close(request: Request) -> Response:
    """Close somebody's link."""
    fields = await _posted(request)
    try:
        await in_thread(revoke, _database(request), fields.get("name", ""))
    except ValueError as error:
        return await _page(request, status=400, said=str(error))
    return await _page(request, said=f"The link of {fields['name']} is closed. The votes stay.")


async def _posted(request: Request) -> dict[str, str]:
    fields = await form(request)
    await allowed(request, "owner")
    check_csrf(request, fields)
    if not site_of(request).tokens:
        raise HTTPException(403, "Links are for a server that was started with --host.")
    return fields


def _database(request: Request) -> Database:
    database = site_of(request).database
    if database is None:
        raise HTTPException(404, "No run here asks people.")
    return database


async def _page(request: Request, status: int = 200, said: str = "", link: str = "") -> Response:
    database = _database(request)
    voters, numbers = await in_thread(all_voters, database), await in_thread(measured, database)
    values = {"people": voters, "numbers": numbers, "said": said, "link": link, "roles": get_args(Role)}
    inside = "agreement.html" if PART in request.headers else "people.html"
    return page(request, inside, status=status, title="People", **values)


def measured(database: Database) -> dict[str, Any]:
    """The agreement of all stored votes."""
    return agreement(asked_for(read_records(database)))


ROUTES = [
    Route("/people", people),
    Route("/people", add, methods=["POST"]),
    Route("/people/revoke", close, methods=["POST"]),
]
