"""The database of votes: SQLite in a file, or PostgreSQL by URL; opening it, and transactions.

Leaves out: its tables (`tables.py`).

    database = open_database("runs/mine/cache/votes.sqlite"); database = open_database("postgresql://me@host/votes")
    with database.write() as connection: ...
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)

from sparring.votes.counting import lacks
from sparring.votes.tables import ITEMS, METADATA, SETTINGS, TRIES, VERSION, WAITING, WANTED

THREADS = 50
"""that may ask SQLite at once, each with a connection that stays open: to open one costs more than to ask"""
BUSY_SECONDS = 30
"""that a writer waits for another one"""
SCHEMES = ("sqlite", "postgresql")


class Unavailable(RuntimeError):
    """The database does not answer: what was asked of it is not done."""


class Database:
    """An open database of votes."""

    def __init__(self, engine: sa.Engine, place: str, path: Path | None = None) -> None:
        """`path`: the file of SQLite."""
        self.engine, self.place = engine, place
        self._path, self._file = path, _file_of(path)
        self._writing = threading.Lock()

    def __repr__(self) -> str:
        """Where it is, without a password."""
        return f"Database({self.place!r})"

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection in a transaction.

        Raises:
            Unavailable: the database does not answer.
        """
        self._refuse_deleted()
        with _told(self.place), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self, durable: bool = True) -> Iterator[sa.Connection]:
        """As `read`, to change something: it is on disk when the block ends, or an error is raised and nothing changed.

        `durable`: false where a power cut may take it back (SQLite; a killed process takes nothing back). Writers of
        this process wait for each other here, in order; SQLite would have them try again and again.
        """
        self._refuse_deleted()
        with _told(self.place), self._writing, self.engine.connect() as opened:
            connection = opened.execution_options(sparring_writes="FULL" if durable else "NORMAL")
            with connection.begin():
                yield connection

    def _refuse_deleted(self) -> None:
        """An open file that was deleted still takes votes, which nobody could ever read."""
        if self._path is None:
            return
        self._file = self._file or _file_of(self._path)
        if _file_of(self._path) != self._file:
            raise Unavailable(f"the database of votes at {self.place} is gone: it was moved or deleted")

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def _file_of(path: Path | None) -> tuple[int, int] | None:
    """Which file lies at a path now; None where there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


@contextlib.contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (OperationalError, InterfaceError) as error:
        raise Unavailable(f"the database of votes at {place} does not answer: {_reason(error)}") from error
    except SQLAlchemyError as error:  # the connection broke in the middle
        if getattr(error, "connection_invalidated", False):
            raise Unavailable(f"the database of votes at {place} went away: {_reason(error)}") from error
        raise


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip().split("\n")[0]


def open_database(place: str | Path, make: bool = True) -> Database:
    """The database at a path or URL, its tables made where it has none.

    Raises:
        ValueError: neither a path nor a URL of SQLite or PostgreSQL; no database of votes, or of another version; or
            there is none and it is not to be made.
        Unavailable: it does not answer.
    """
    url = database_url(place)
    shown = url.render_as_string(hide_password=True) if url.get_backend_name() != "sqlite" else str(url.database)
    path = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if path is not None:
        if not path.exists() and not make:
            raise ValueError(f"{path}: there is no database of votes. Run what asks people first, or name another.")
        _try_path(path)
    database = Database(_engine(url), shown, path)
    _check(database, make)
    return database


def database_url(place: str | Path) -> sa.URL:
    """The URL of a path, or a URL as it is, with the driver that is installed with the extra."""
    if isinstance(place, Path) or "://" not in place:
        return sa.URL.create("sqlite", database=str(Path(place).expanduser()))
    try:
        url = sa.make_url(place)
    except ArgumentError as error:
        raise ValueError(f"votes: {place.partition('@')[2] or place!r} is no URL of a database.") from error
    if url.get_backend_name() not in SCHEMES:
        raise ValueError(
            f"votes: {url.get_backend_name()!r} is no database that votes are kept in. Give the path of a file "
            "(SQLite) or postgresql://USER@HOST/NAME."
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _try_path(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"votes: {path} is a folder. Give a file, which is made where there is none.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"votes: {path} cannot be made: {error.strerror}. Give another path.") from error


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return sa.create_engine(url, pool_pre_ping=True, pool_size=10, connect_args={"connect_timeout": 10})
        except ImportError as error:
            raise ValueError(
                "votes: PostgreSQL needs psycopg. Install it with: pip install 'sparring[postgresql]'"
            ) from error
    waiting = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=waiting, pool_size=THREADS)

    @event.listens_for(engine, "connect")
    def _connect(connection: object, _: object) -> None:
        # Transactions are begun below: the driver would begin one at its first write, after what it read has aged.
        connection.isolation_level = None  # type: ignore[attr-defined]
        for pragma in ("journal_mode=WAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("sparring_writes")
        if writes:
            connection.exec_driver_sql(f"PRAGMA synchronous={writes}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _check(database: Database, make: bool) -> None:
    """Make the tables where there is none, or refuse what is no database of votes of this version."""
    try:
        with database.write() as connection:
            names = set(sa.inspect(connection).get_table_names())
            if "settings" not in names:
                if names or not make:
                    raise ValueError(
                        f"{database.place} is no database of votes: it has "
                        f"{'other tables' if names else 'no table'}. Give an empty one, or a new file."
                    )
                METADATA.create_all(connection)
                connection.execute(SETTINGS.insert().values(name="version", value=VERSION))
            version = sa.select(SETTINGS.c.value).where(SETTINGS.c.name == "version")
            found = connection.scalar(version.with_for_update())  # whoever completes the tables now is waited for
            if found == "1":
                _complete(connection)
                found = VERSION
    except DatabaseError as error:
        raise ValueError(f"{database.place} is no database of votes: {_reason(error)}. Give another one.") from error
    if found != VERSION:
        raise ValueError(
            f"{database.place} is a database of votes of version {found}, and this one knows version {VERSION}. Take "
            "the sparring that made it, or export the votes with that and import them into a new one."
        )


def _complete(connection: sa.Connection) -> None:
    """Give tables of version 1 what came later, and count what their items lack."""
    TRIES.create(connection, checkfirst=True)
    connection.exec_driver_sql("DROP INDEX IF EXISTS items_in_order")
    connection.exec_driver_sql("ALTER TABLE items ADD COLUMN lacks INTEGER NOT NULL DEFAULT 0")
    for index in (WAITING, WANTED):
        index.create(connection)
    connection.execute(ITEMS.update().values(lacks=lacks()))
    connection.execute(SETTINGS.update().where(SETTINGS.c.name == "version").values(value=VERSION))
