"""Which oracles the workers of a cluster can build and ask by themselves, and what one judges there.

Those that compute in their process, from a recipe's section alone. A judge behind a URL is asked by the controller,
which pays, counts and stores its replies; so is your own code, which need not lie on every machine. Leaves out: which
comparisons are asked (`rounds/judge.py`).

    portable({"name": "both_orders", "oracle": {"name": "reward_model", "model": "org/rm"}})  ->  True
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

MODELS = ("panel", "reward_model", "trained", "preference_head", "pair_model", "mutual_information", "local_judge")
"""names in a recipe of oracles that run a model in their process"""
WRAPPERS = ("both_orders", "jury", "length_penalty", "duplicate_gate")
"""names of oracles that are as portable as those inside"""
FILES = ("replies",)
"""fields that name a file which is written, and which belongs to the controller"""


def portable(section: Mapping[str, Any]) -> bool:
    """Whether workers can judge by the oracle of a recipe's section."""
    return _made_of(section, (*MODELS, *WRAPPERS))


def computes_here(section: Mapping[str, Any]) -> bool:
    """Whether the oracle of a recipe's section asks nobody outside its process, so that it can stay in memory."""
    return _made_of(section, (*MODELS, *WRAPPERS, "rules"))


def computed_elsewhere(section: Mapping[str, Any], here: bool | None = None) -> bool:
    """Whether the oracle of a recipe's section asks models behind URLs, and nobody in this process.

    `here`: whether it counts where a server of this machine is asked; None: it does not. A user's regular expressions
    (`rules`) are no such oracle: beside the main thread nothing bounds them (`runtime/bounds.py`).
    """
    sections = list(_sections(section))
    judges = [one for one in sections if one.get("name") == "llm_judge"]
    others = {one.get("name") for one in sections} - {"llm_judge", *WRAPPERS, "calibrated", "cached"}
    near = any(_on_this_machine(one.get("base_url") or os.environ.get("OPENAI_BASE_URL", "")) for one in judges)
    return here is not False and bool(judges) and not others and (bool(here) or not near)


def _on_this_machine(url: str) -> bool:
    """Whether a URL names this machine by a loopback address."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _made_of(section: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether a section and all inside it have one of these names, and no file that they write."""
    sections = list(_sections(section))
    return all(one.get("name") in names and not any(one.get(field) for field in FILES) for one in sections)


def _sections(section: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The section, and those of the oracles inside it."""
    yield section
    for value in section.values():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping) and "name" in inner:
                yield from _sections(inner)
