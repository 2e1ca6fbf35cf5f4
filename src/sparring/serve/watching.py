"""The Watch room's routes: all folders side by side, one in full, and the report that a run has written."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from sparring.runtime.layout import REPORT
from sparring.serve.security import PART, REPORT_POLICY, allowed, current, site_of
from sparring.serve.templates import page
from sparring.serve.watch import Watched


async def overview(request: Request) -> Response:
    """All folders side by side; a single one in full."""
    if site_of(request).tokens:
        voter = await run_in_threadpool(current, request)
        if voter is not None and voter.role == "voter":
            return RedirectResponse("/vote", 303)
    await _admitted(request)
    watched: list[Watched] = request.app.state.watched
    if len(watched) == 1:
        return await _run(request, 0)
    seen = [await run_in_threadpool(one.look) for one in watched]
    template = "runs.html" if PART in request.headers else "watch.html"
    return page(request, template, runs=seen, title="Runs", inside="runs.html")


async def run(request: Request) -> Response:
    """One folder in full."""
    await _admitted(request)
    return await _run(request, _number(request))


async def report(request: Request) -> Response:
    """The report that a finished run has written, in a sandbox of its own."""
    await _admitted(request)
    path = request.app.state.watched[_number(request)].folder / REPORT
    if not path.is_file():
        raise HTTPException(404, "This run has written no report yet.")
    return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


async def _admitted(request: Request) -> None:
    """Raises as `allowed`. A local server asks nobody, so that runs are seen when their database of votes is gone."""
    if site_of(request).tokens:
        await allowed(request, "viewer", "owner")


async def _run(request: Request, number: int) -> Response:
    seen = await run_in_threadpool(request.app.state.watched[number].look)
    template = "run.html" if PART in request.headers else "watch.html"
    return page(request, template, seen=seen, number=number, title=seen.name, inside="run.html")


def _number(request: Request) -> int:
    number = request.path_params["number"]
    if number >= len(request.app.state.watched):
        raise HTTPException(404, "There is no such run here.")
    return number


ROUTES = [Route("/", overview), Route("/run/{number:int}", run), Route("/run/{number:int}/report", report)]
