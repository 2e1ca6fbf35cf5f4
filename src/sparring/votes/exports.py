"""Votes in the field's formats: Chatbot Arena's columns, Label Studio, Argilla, TRL's pairs, and ours.

Names of policies are in none of them: voters did not know them, and the database does not. Leaves out: reading these
formats (`imports.py`).

    rows, dropped = exported(read_records(database), "trl")
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

Row = dict[str, Any]
ARENA = {"left": "model_a", "right": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}
"""verdict -> `winner` of lmarena-ai/arena-human-preference-100k"""
ARGILLA = {"left": "response_left", "right": "response_right", "tie": "tie", "both_bad": "both_bad"}


class Exported(NamedTuple):
    """Rows, and what they leave out by reason."""

    rows: list[Row]
    dropped: Counter[str]


def exported(records: Sequence[Record], form: str) -> Exported:
    """The votes as rows of one of `FORMS`.

    Raises:
        ValueError: there is no such format.
    """
    if form not in FORMS:
        raise ValueError(f"--format {form!r}: there is none of this name. Give one of {', '.join(FORMS)}.")
    return FORMS[form](records)


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
        }
        for record in records
    ]
    return Exported(rows, Counter())


def arena(records: Sequence[Record]) -> Exported:
    """Columns of Chatbot Arena's releases; `model_a` was on the left, and both models are named by their answers."""
    dropped: Counter[str] = Counter()
    rows = []
    for record in _counting(records, dropped):
        names, conversations = zip(*((_name(text), _with_answer(record, text)) for text in record.shown), strict=True)
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
                "anony": True,
                "tstamp": record.voted_at,
            }
        )
    return Exported(rows, dropped)


def label_studio(records: Sequence[Record]) -> Exported:
    """Tasks of Label Studio's `<Pairwise>`, which knows left and right; a tie and both bad are choices beside it."""
    dropped: Counter[str] = Counter()
    rows = []
    for record in _counting(records, dropped):
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
        for record in _counting(records, dropped)
    ]
    return Exported(rows, dropped)


def trl(records: Sequence[Record]) -> Exported:
    """Pairs that TRL's trainers read: a row per vote for a side. Conversations where a prompt has several turns."""
    dropped: Counter[str] = Counter()
    rows: list[Row] = []
    for record in _counting(records, dropped):
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
    for record in _counting(records, dropped):
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
