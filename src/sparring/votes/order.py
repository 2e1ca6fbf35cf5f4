"""In which order people are asked: first one pair of every prompt, then a second of each, and so on.

Prompts, not pairs, are the independent unit of an interval: a second vote on a prompt tells less than a first on
another. So whenever people stop, their votes lie on as many prompts as possible. The order within a prompt, and that
of the prompts, is by hash: it depends on no policy and no earlier vote, and is the same after a restart. Leaves out:
who is asked (`choosing.py`), and comparisons that need no vote at all (`evaluation/racing.py`).

    places(items)  ->  {item's id: 0, 1, ...}
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparring.votes.items import Item


def places(items: Mapping[str, Item]) -> dict[str, int]:
    """The place of each item, by id, from 0 on."""
    by_prompt: dict[str, list[str]] = defaultdict(list)
    for id_ in sorted(items):
        prompt = repr([sorted(message.items()) for message in items[id_].messages])
        by_prompt[hashlib.sha256(prompt.encode()).hexdigest()].append(id_)
    turns = [(turn, prompt, id_) for prompt, ids in by_prompt.items() for turn, id_ in enumerate(ids)]
    return {id_: place for place, (_, _, id_) in enumerate(sorted(turns))}
