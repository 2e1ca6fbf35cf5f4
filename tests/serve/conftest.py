"""Servers in this process, over a folder whose pairs are to be voted on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.layout import VOTES
from sparring.runtime.progress import QUIET
from sparring.serve.site import Site, open_site
from sparring.votes.ballot import Ballot
from sparring.votes.tables import open_database
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


@pytest.fixture
def finished(tiny_recipe: dict[str, Any], tmp_path: Path) -> Path:
    """A finished run."""
    out = tmp_path / "done"
    run(parse_recipe({**tiny_recipe, "rounds": 1}), out, QUIET)
    return out
