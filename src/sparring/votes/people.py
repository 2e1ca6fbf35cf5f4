"""Who may watch and vote: names, roles, tokens and the key that signs sessions.

A token is 32 random bytes and is shown once; the database has its SHA-256, so that nobody who reads it can enter.
Leaves out: sessions and links (`serve/security.py`).

    token = add_voter(database, "Ada", "voter"); who = by_token(database, token); revoke(database, "Ada")
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sparring.votes.database import Database
from sparring.votes.tables import SETTINGS, VOTERS

Role = Literal["viewer", "voter", "owner"]
"""viewer: watches; voter: votes, and sees nothing that tells which answer is whose; owner: both, and people"""
ROLES: tuple[Role, ...] = get_args(Role)
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Voter:
    """A person who may enter."""

    id: int
    name: str
    role: Role
    has_link: bool
    revoked: bool
    since: str
    """changes with the link, so that a session of an older one ends"""


def checked_name(name: str) -> str:
    """A name without blanks around it.

    Raises:
        ValueError: it is empty, too long, or holds characters that cannot be seen.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a name has 1 to {LONGEST_NAME} characters that can be seen; this one is {name[:80]!r}.")
    return name


def add_voter(database: Database, name: str, role: Role) -> str:
    """Let somebody in; returns the token, which is shown only now. A revoked name gets a new one.

    Raises:
        ValueError: the name is taken or not usable, or there is no such role.
    """
    if role not in ROLES:
        raise ValueError(f"role {role!r}: there is none of this name. Give one of {', '.join(ROLES)}.")
    token, name = secrets.token_urlsafe(32), checked_name(name)
    fresh = {"role": role, "token_hash": _hash(token), "revoked_at": None}
    with database.write() as connection:
        known = connection.execute(sa.select(VOTERS).where(VOTERS.c.name == name)).one_or_none()
        if known is None:
            connection.execute(VOTERS.insert().values(name=name, made_at=time.time(), **fresh))
        elif known.token_hash is not None and known.revoked_at is None:
            raise ValueError(f"{name!r} has a link already. Revoke it first, or take another name.")
        else:
            connection.execute(VOTERS.update().where(VOTERS.c.id == known.id).values(**fresh))
    return token


def named_voter(database: Database, name: str, role: Role = "owner") -> Voter:
    """The voter of this name, made where there is none: on this machine a name is enough, and imports bring names."""
    name = checked_name(name)
    with database.read() as connection:
        row = connection.execute(sa.select(VOTERS).where(VOTERS.c.name == name)).one_or_none()
    if row is not None:
        return _voter(row)
    try:
        with database.write() as connection:
            connection.execute(VOTERS.insert().values(name=name, role=role, made_at=time.time()))
    except IntegrityError:  # another tab was faster
        pass
    return named_voter(database, name, role)


def revoke(database: Database, name: str) -> None:
    """Close a person's link at once; what they voted stays.

    Raises:
        ValueError: nobody has this name.
    """
    with database.write() as connection:
        changed = connection.execute(
            VOTERS.update().where(VOTERS.c.name == name.strip()).values(revoked_at=time.time(), token_hash=None)
        )
        if not changed.rowcount:
            names = [row.name for row in connection.execute(sa.select(VOTERS.c.name).order_by(VOTERS.c.name))]
            raise ValueError(f"nobody is called {name!r}. There are: {', '.join(names) or 'none'}.")


def by_token(database: Database, token: str) -> Voter | None:
    """Whose token it is; None where it is nobody's, or was revoked."""
    return _one(database, sa.and_(VOTERS.c.token_hash == _hash(token), VOTERS.c.revoked_at.is_(None)))


def by_id(database: Database, voter: int) -> Voter | None:
    """The voter of this number; None where there is none."""
    return _one(database, VOTERS.c.id == voter)


def all_voters(database: Database) -> list[Voter]:
    """Everybody, the first to come first."""
    with database.read() as connection:
        return [_voter(row) for row in connection.execute(sa.select(VOTERS).order_by(VOTERS.c.id))]


def signing_key(database: Database, key: str | None = None) -> str:
    """The secret that signs sessions, made once, so that they outlive the server; `key` signs some already."""
    select = sa.select(SETTINGS.c.value).where(SETTINGS.c.name == "key")
    with database.read() as connection:
        if (stored := connection.scalar(select)) is not None:
            return stored
    try:
        with database.write() as connection:
            connection.execute(SETTINGS.insert().values(name="key", value=key or secrets.token_urlsafe(32)))
    except IntegrityError:  # another server was faster
        pass
    return signing_key(database)


def _one(database: Database, which: sa.ColumnElement[bool]) -> Voter | None:
    with database.read() as connection:
        row = connection.execute(sa.select(VOTERS).where(which)).one_or_none()
    return None if row is None else _voter(row)


def _voter(row: sa.Row) -> Voter:
    since = (row.token_hash or "")[:16]
    return Voter(row.id, row.name, row.role, row.token_hash is not None, row.revoked_at is not None, since)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
