"""What a server shows: the folders that it watches, and the database of votes that belongs to them.

Nothing is written but votes: people's names, tokens and votes lie in the database that the recipe names, else in
`cache/votes.sqlite` of the first folder. Where no run asks people it is made when somebody gives a name, so that
watching writes nothing. Leaves out: pages, and what is read of a run (`watch.py`).

    site = open_site([Path("runs/mine")], votes=None, tokens=False)
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparring.rounds.state import read_stored
from sparring.runtime import layout
from sparring.votes.ballot import Ballot
from sparring.votes.database import Database, Unavailable, open_database
from sparring.votes.people import signing_key


@dataclass(slots=True)
class Site:
    """What a server shows."""

    folders: tuple[Path, ...]
    database: Database | None
    """of votes; None where nothing asks people and nobody has come yet"""
    tokens: bool
    """whether everybody needs a link with a token"""
    key: str = field(repr=False)
    """signs sessions"""
    place: str = ""
    """where the database is, or would be made"""
    asks: bool = True
    """whether a run or a contest asks people, so that there is something to vote on"""
    _making: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def ballot(self) -> Ballot | None:
        """The votes; None where there is no database."""
        return None if self.database is None else Ballot(self.database)

    @property
    def runs(self) -> bool:
        """Whether there are runs, whose policies can be talked to."""
        return any(map(layout.is_run, self.folders))

    def made_database(self) -> Database:
        """The database, made where there is none.

        Raises:
            ValueError: it cannot be made there.
        """
        with self._making:
            if self.database is None:
                try:
                    database = open_database(self.place)
                    signing_key(database, self.key)
                except Unavailable as error:
                    raise ValueError(
                        f"{error}. Start the server with --votes FILE, a file that can be written."
                    ) from error
                self.database = database
            return self.database


def open_site(folders: Sequence[Path], votes: str | None, tokens: bool) -> Site:
    """Check the folders and open their database of votes; with `tokens` there is always one, which holds the tokens.

    Raises:
        ValueError: a folder is no run and no contest; they keep their votes in different databases; or theirs cannot
            be used.
    """
    for folder in folders:
        layout.refuse_folder_of_runs(folder)
        if not is_served(folder):
            raise ValueError(
                f"{folder} is no run's folder, nor one of `evaluate head-to-head`: start what is to be watched first."
            )
    places = {votes: None} if votes else dict.fromkeys(place for folder in folders for place in vote_places(folder))
    if len(places) > 1:
        raise ValueError(
            f"these folders keep their votes in different places: {', '.join(map(str, places))}. Serve them one by "
            "one, or name one database for all (oracle.database) when they are started."
        )
    own = own_votes(folders[0])
    place = next(iter(places), str(own))
    if not (places or tokens or own.exists()):
        return Site(tuple(folders), None, tokens, secrets.token_urlsafe(32), place, asks=False)
    try:
        database = open_database(place)
        return Site(tuple(folders), database, tokens, signing_key(database), place, asks=bool(places))
    except Unavailable as error:
        raise ValueError(f"votes: {error}. Start it, and give the same command.") from error


def database_of(place: str, make: bool = False) -> Database:
    """The database of votes of a folder that asks people, or at a path or URL.

    Raises:
        ValueError: the folder asks nobody, or the database cannot be used.
    """
    folder = Path(place)
    try:
        if not folder.is_dir():
            return open_database(place, make)
        layout.refuse_folder_of_runs(folder)
        places = list(vote_places(folder))
        if len(places) > 1:
            raise ValueError(f"{folder} asks people in several places: name one of {', '.join(places)}.")
        return open_database(places[0] if places else own_votes(folder), make)
    except Unavailable as error:
        raise ValueError(f"votes: {error}. Start it, and give the same command.") from error


def is_served(folder: Path) -> bool:
    """Whether a folder can be shown: a run's, or a contest's."""
    return layout.is_run(folder) or is_contest(folder)


def is_contest(folder: Path) -> bool:
    """Whether policies are compared in a folder, by `evaluate head-to-head` and the like."""
    return not layout.is_run(folder) and ((folder / layout.MANIFEST).exists() or own_votes(folder).exists())


def own_votes(folder: Path) -> Path:
    """Where a folder keeps votes itself: beside its verdicts, which audits and studies keep without a `cache/`."""
    beside = folder / Path(layout.VOTES).name
    return beside if beside.exists() else folder / layout.VOTES


def vote_places(folder: Path) -> Iterator[str]:
    """Where the votes of a folder are kept, as path or URL; nothing where nobody votes."""
    own = own_votes(folder)
    if not layout.is_run(folder):
        if own.exists():
            yield str(own)
        return
    recipe = read_stored(folder)
    asked = [*_people(recipe.get("oracle")), *_people(recipe.get("evaluation"))]
    yield from dict.fromkeys(section.get("database") or str(own) for section in asked)


def _people(part: Any) -> Iterator[Mapping[str, Any]]:
    """The sections of a recipe that ask people, however deep."""
    if isinstance(part, Mapping):
        if part.get("name") == "people":
            yield part
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from _people(inner)
