"""ALOE's published rows (2410.03642), read as they are: personas, and dialogues with two answers a turn.

    {"profile": "...", "personality": "..."}     a prompt, as the environment persona_chat reads it
    {"conversations": [{"user": "...", "assistant": {"preferred": "...", "rejected": "..."}, "chosen": "rejected"}]}
                                                 for every turn the dialogue so far, chosen and rejected

The dialogue goes on with the answer that `chosen` names. Where `rejected` is a list, as the released training script
expects, one of it is taken, by a hash. Leaves out: the inferred personas of the rows, which training does not use, and
the files of strings (`rows.py`).

    list(plain_rows({"profile": "She is a baker.", "personality": "She is calm."}))[0]["prompt"]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sparring.environments.personas import persona_prompt

Row = dict[str, Any]


PERSONA = {"profile", "personality"}
"""columns of a persona; a row that holds others too is of another form"""


class UnusableRow(ValueError):
    """Why a row, or the rest of it, is left out."""


def plain_rows(row: Row, prompt: str = "prompt") -> Iterator[Row]:
    """The rows with a prompt that a row stands for: a row of any other form stands for itself.

    Raises:
        UnusableRow: why a persona, or the rest of a dialogue, cannot be used.
    """
    if prompt in row:
        yield row
    elif _is_dialogue(row.get("conversations")):
        yield from _turns(row["conversations"])
    elif row.keys() & PERSONA and row.keys() <= {*PERSONA, "split"}:
        profile, personality = (
            _text(row.get(name), f"the persona has no {name}") for name in ("profile", "personality")
        )
        yield {**row, prompt: persona_prompt(profile, personality)}
    else:
        yield row


def _is_dialogue(turns: Any) -> bool:
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and "user" in first and isinstance(first.get("assistant"), dict)


def _turns(turns: list[Any]) -> Iterator[Row]:
    """A row for each turn."""
    dialogue: list[dict[str, str]] = []
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(answers := turn.get("assistant"), dict):
            raise UnusableRow("a turn of the dialogue has no answers: it and all later ones are left out")
        dialogue.append({"role": "user", "content": _text(turn.get("user"), "a turn of the dialogue has no user")})
        preferred = _text(answers.get("preferred"), "a turn of the dialogue has no preferred answer")
        several = answers.get("rejected")
        listed = several if isinstance(several, list) else [several]
        place = int(hashlib.sha256(preferred.encode()).hexdigest(), 16) % max(1, len(listed))
        rejected = _text(listed[place] if listed else None, "a turn of the dialogue has no rejected answer")
        yield {"prompt": [dict(message) for message in dialogue], "chosen": preferred, "rejected": rejected}
        if (went_on := turn.get("chosen")) not in ("preferred", "rejected"):
            raise UnusableRow("a turn does not say which answer the dialogue went on with: later ones are left out")
        if went_on == "rejected" and len(listed) > 1:
            raise UnusableRow("a dialogue went on with one of several rejected answers: later turns are left out")
        dialogue.append({"role": "assistant", "content": preferred if went_on == "preferred" else rejected})


def _text(value: Any, missing: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UnusableRow(missing)
    return value.strip()
