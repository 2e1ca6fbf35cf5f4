"""The tables of votes.

Texts are JSON in ASCII: a model may write a NUL or half a surrogate pair, which PostgreSQL refuses. Leaves out: the
database that they are in (`database.py`), and the questions that are asked of them (`ballot.py`, `people.py`).

    connection.execute(sa.select(VOTES).where(COUNTS))
"""

from __future__ import annotations

import sqlalchemy as sa

VERSION = "2"
"""of the tables; those of version 1 are completed, any other is refused"""
METADATA = sa.MetaData()
SETTINGS = sa.Table(
    "settings",
    METADATA,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
VOTERS = sa.Table(
    "voters",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(80), nullable=False, unique=True),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("token_hash", sa.String(64), unique=True),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
)
ITEMS = sa.Table(
    "items",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("messages", sa.Text, nullable=False),
    sa.Column("answers", sa.Text, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("skips", sa.Integer, nullable=False),
    sa.Column("double", sa.Boolean, nullable=False),
    sa.Column("urgent", sa.Boolean, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("closed_at", sa.Float),
    sa.Column("lacks", sa.Integer, nullable=False, server_default="0"),
)
"""Two answers to a prompt. `wanted`: votes that an oracle waits for, 0 where votes were only imported; `skips`: so
many leave it without a verdict; `double`: one more voter is asked, for the agreement; `urgent`: an oracle waits now;
`closed_at`: its verdict is used; `lacks`: `counting.VOTE`, `SECOND` or `NOTHING`, as `counting.settle` found it: to
count the votes of every item was most of a vote's time."""
WAITING = sa.Index(
    "items_waiting",
    *(ITEMS.c.urgent.desc(), ITEMS.c.place, ITEMS.c.lacks),
    sqlite_where=sa.text("lacks > 0"),
    postgresql_where=sa.text("lacks > 0"),
)
"""the order in which items are asked"""
WANTED = sa.Index("items_wanted", ITEMS.c.wanted, ITEMS.c.lacks)
"""so that to count them is to read no answer"""
SHOWINGS = sa.Table(
    "showings",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("item", sa.ForeignKey("items.id"), nullable=False, index=True),
    sa.Column("voter", sa.ForeignKey("voters.id"), nullable=False, index=True),
    sa.Column("repeat", sa.Boolean, nullable=False),
    sa.Column("left", sa.Integer, nullable=False),
    sa.Column("shown_at", sa.Float, nullable=False),
)
"""An item on a voter's screen. `left`: which of the item's answers, 0 or 1; `repeat`: for the second time, swapped."""
VOTES = sa.Table(
    "votes",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("showing", sa.ForeignKey("showings.id"), nullable=False, unique=True),
    sa.Column("item", sa.ForeignKey("items.id"), nullable=False, index=True),
    sa.Column("voter", sa.ForeignKey("voters.id"), nullable=False, index=True),
    sa.Column("repeat", sa.Boolean, nullable=False),
    sa.Column("left", sa.Integer, nullable=False),
    sa.Column("verdict", sa.String(10), nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("voted_at", sa.Float, nullable=False),
    sa.Column("undone_at", sa.Float),
)
"""What a voter said of a showing, as it was shown. Their order is that of `id`, which no clock disturbs."""
TRIES = sa.Table(
    "tries",
    METADATA,
    sa.Column("showing", sa.ForeignKey("showings.id"), primary_key=True),
    sa.Column("left_policy", sa.Text, nullable=False),
    sa.Column("right_policy", sa.Text, nullable=False),
    sa.Column("blind", sa.Boolean, nullable=False),
)
"""Of a showing that was a turn of a conversation (`tries.py`): whose answers stood on which side, and whether the voter
could not know. """
COUNTS = sa.and_(VOTES.c.undone_at.is_(None), VOTES.c.verdict != "skip")
"""a vote that counts"""
sa.Index(
    "one_vote",
    *(VOTES.c.item, VOTES.c.voter, VOTES.c.repeat),
    unique=True,
    sqlite_where=COUNTS,
    postgresql_where=COUNTS,
)
