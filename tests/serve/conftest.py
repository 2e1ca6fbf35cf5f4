"""Servers in this process, over a folder whose pairs are to be voted on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from browsing import Server
from conftest import recipe_in
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.layout import VOTES
from sparring.runtime.progress import QUIET
from sparring.serve.generating import Generator
from sparring.serve.site import Site, open_site
from sparring.votes.ballot import Ballot
from sparring.votes.database import open_database
from vote_fakes import item


@pytest.fixture
def contest(tmp_path: Path) -> Path:
    """The folder of a contest with thirty pairs to vote on."""
    folder = tmp_path / "contest"
    (folder / VOTES).parent.mkdir(parents=True)
    ballot = Ballot(open_database(folder / VOTES))
    ballot.ask([item(i) for i in range(30)], wanted=1, skips=3)
    ballot.database.close()
    return folder


def opened(folder: Path, tokens: bool) -> Iterator[Site]:
    site = open_site([folder], None, tokens)
    yield site
    assert site.database is not None
    site.database.close()


@pytest.fixture
def local(contest: Path) -> Iterator[Site]:
    """Without --host."""
    yield from opened(contest, tokens=False)


@pytest.fixture
def shared(contest: Path) -> Iterator[Site]:
    """With --host."""
    yield from opened(contest, tokens=True)


@pytest.fixture(scope="session")
def _finished_once(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    out = folder / "done"
    run(parse_recipe({**recipe_in(folder, tiny_model), "rounds": 1}), out, QUIET)
    return out


@pytest.fixture
def finished(_finished_once: Path, tmp_path: Path) -> Path:
    """A finished run, a copy of its own."""
    return shutil.copytree(_finished_once, tmp_path / "done", symlinks=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(site: Site, generator: Generator | None = None) -> Server:
        servers.append(Server(site, generator))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
