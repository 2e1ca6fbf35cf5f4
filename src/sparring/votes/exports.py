"""Votes in the field's formats: Chatbot Arena's columns, Label Studio, Argilla, TRL's pairs, and ours.

Votes of the Vote room hold no name of a policy: voters did not know them, and the database does not. Preferences that
were given in a conversation hold two; where they were in sight, they are left out of all formats but ours and Arena's,
which marks them. Leaves out: reading these formats (`imports.py`).

    rows, dropped = exported(read_records(database), "trl", room="vote")
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sparring.votes.items import Messages
from sparring.votes.records import Record
from sparring.votes.tries import ROOM

Row = dict[str, Any]
ROOMS = ("all", "vote", ROOM)
"""vote: asked for by an oracle, or imported; try: given in a conversation"""
ARENA = {"left": "model_a", "right": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}
"""verdict -> `winner` of lmarena-ai/arena-human-preference-100k"""
ARGILLA = {"left": "response_left", "right": "response_right", "tie": "tie", "both_bad": "both_bad"}


class Exported(NamedTuple):
    """Rows, and what they leave out by reason."""

    rows: list[Row]
    dropped: Counter[str]


def exported(records: Sequence[Record], form: str, room: str = "all") -> Exported:
    """The votes of one of `ROOMS` as rows of one of `FORMS`.

    Raises:
        ValueError: there is no such format or room.
    """
    for name, value, allowed in (("--format", form, tuple(FORMS)), ("--room", room, ROOMS)):
        if value not in allowed:
            raise ValueError(f"{name} {value!r}: there is none of this name. Give one of {', '.join(allowed)}.")
    chosen = [record for record in records if room == "all" or (record.tried is None) == (room == "vote")]
    rows, dropped = FORMS[form](chosen)
    dropped[f"of the other room (--room {room})"] += len(records) - len(chosen)
    return Exported(rows, dropped)


def _unknowing(records: Sequence[Record], dropped: Counter[str]) -> list[Record]:
    """As `_counting`, but those that were given with the policies' names in sight are counted too."""
    counting = _counting(records, dropped)
    blind = [record for record in counting if record.tried is None or record.tried.blind]
    dropped["given with the policies' names in sight"] += len(counting) - len(blind)
    return blind


def _counting(records: Sequence[Record], dropped: Counter[str]) -> list[Record]:
    """First verdicts that were not taken back; the others are counted."""
    dropped["taken back"] += sum(record.undone for record in records)
    dropped["skipped"] += sum(not record.undone and record.verdict == "skip" for record in records)
    dropped["returned pairs"] += sum(record.counts and record.repeat for record in records)
    return [record for record in records if record.counts and not record.repeat]


def own(records: Sequence[Record]) -> Exported:
    """Everything, a vote a row; what `import` reads without loss."""
    rows = [
        {
            "id": record.showing,
            "question": record.question,
            "prompt": list(record.messages),
            "left": record.shown[0],
            "right": record.shown[1],
            "verdict": record.verdict,
            "voter": record.voter,
            "repeat": record.repeat,
            "seconds": record.seconds,
            "voted_at": record.voted_at,
            "undone": record.undone,
            "room": "vote" if record.tried is None else ROOM,
            "policies": None if record.tried is None else [record.tried.left, record.tried.right],
            "blind": None if record.tried is None else record.tried.blind,
        }
        for record in records
    ]
    return Exported(rows, Counter())


def arena(records: Sequence[Record]) -> Exported:
    """Columns of Chatbot Arena's releases; `model_a` was on the left.

    Models are named by their policies where these were chosen in a conversation, else by a hash of their answers.
    """
    dropped: Counter[str] = Counter()
    rows = []
    for record in _counting(records, dropped):
        conversations = [_with_answer(record, text) for text in record.shown]
        tried = record.tried
        names = [_name(text) for text in record.shown] if tried is None else [tried.left, tried.right]
        rows.append(
            {
                "question_id": record.item[:32],
                "model_a": names[0],
                "model_b": names[1],
                "winner": ARENA[record.verdict],
                "judge": record.voter,
                "conversation_a": conversations[0],
                "conversation_b": conversations[1],
                "turn": sum(message["role"] == "user" for message in record.messages),
                "anony": tried is None or tried.blind,
                "tstamp": record.voted_at,
            }
        )
    return Exported(rows, dropped)


def label_studio(records: Sequence[Record]) -> Exported:
    """Tasks of Label Studio's `<Pairwise>`, which knows left and right; a tie and both bad are choices beside it."""
    dropped: Counter[str] = Counter()
    rows = []
    for record in _unknowing(records, dropped):
        sides = {"from_name": "pairwise", "to_name": "left,right", "type": "pairwise"}
        other = {"from_name": "neither", "to_name": "left", "type": "choices"}
        chosen = (
            {**sides, "value": {"selected": record.verdict}}
            if record.verdict in ("left", "right")
            else {**other, "value": {"choices": [record.verdict]}}
        )
        made = datetime.fromtimestamp(record.voted_at, UTC).isoformat()
        about = {"completed_by": {"email": record.voter}, "lead_time": record.seconds, "created_at": made}
        data = {"prompt": as_text(record.messages), "left": record.shown[0], "right": record.shown[1]}
        rows.append({"id": len(rows) + 1, "data": data, "annotations": [{**about, "result": [chosen]}]})
    return Exported(rows, dropped)


def argilla(records: Sequence[Record]) -> Exported:
    """Records of Argilla 2 with one label question, `preference`."""
    dropped: Counter[str] = Counter()
    rows = [
        {
            "id": record.showing,
            "status": "completed",
            "fields": {
                "prompt": as_text(record.messages),
                "response_left": record.shown[0],
                "response_right": record.shown[1],
            },
            "responses": {"preference": [{"value": ARGILLA[record.verdict], "user_id": record.voter}]},
            "metadata": {"item": record.item},
        }
        for record in _unknowing(records, dropped)
    ]
    return Exported(rows, dropped)


def trl(records: Sequence[Record]) -> Exported:
    """Pairs that TRL's trainers read: a row per vote for a side. Conversations where a prompt has several turns."""
    dropped: Counter[str] = Counter()
    rows: list[Row] = []
    for record in _unknowing(records, dropped):
        if not isinstance(record.meant, int):
            dropped[str(record.meant)] += 1
            continue
        chosen, rejected = record.answers[record.meant], record.answers[1 - record.meant]
        if _plain(record.messages):
            rows.append({"prompt": record.messages[0]["content"], "chosen": chosen, "rejected": rejected})
        else:
            answers = {"chosen": [_answer(chosen)], "rejected": [_answer(rejected)]}
            rows.append({"prompt": list(record.messages), **answers})
    return Exported(rows, dropped)


def labelled(records: Sequence[Record]) -> Exported:
    """A row per pair with P(a beats b) over its votes: what `oracle audit` and `oracle train` read."""
    dropped: Counter[str] = Counter()
    votes: dict[str, list[Record]] = {}
    for record in _unknowing(records, dropped):
        if record.verdict == "both_bad":
            dropped["both_bad"] += 1
        else:
            votes.setdefault(record.item, []).append(record)
    rows = []
    for of_pair in votes.values():
        a, b = of_pair[0].answers
        values = [0.5 if record.meant == "tie" else float(record.meant == 0) for record in of_pair]
        prompt = of_pair[0].messages
        asked = prompt[0]["content"] if _plain(prompt) else list(prompt)
        rows.append({"prompt": asked, "a": a, "b": b, "preference": sum(values) / len(values), "votes": len(values)})
    return Exported(rows, dropped)


FORMS: dict[str, Callable[[Sequence[Record]], Exported]] = {
    "jsonl": own,
    "arena": arena,
    "label-studio": label_studio,
    "argilla": argilla,
    "trl": trl,
    "labelled": labelled,
}


def as_text(messages: Messages) -> str:
    """One turn as its text, several as JSON, which `import` reads again."""
    return messages[0]["content"] if _plain(messages) else json.dumps(list(messages), ensure_ascii=False)


def _plain(messages: Messages) -> bool:
    return len(messages) == 1 and messages[0]["role"] == "user"


def _with_answer(record: Record, text: str) -> list[dict[str, str]]:
    return [*map(dict, record.messages), _answer(text)]


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _name(text: str) -> str:
    return f"answer-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"
