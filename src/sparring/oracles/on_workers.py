"""Which oracles the workers of a cluster can build and ask by themselves, and what one judges there.

Those that compute in their process, from a recipe's section alone. A judge behind a URL is asked by the controller,
which pays, counts and stores its replies; so is your own code, which need not lie on every machine. Leaves out: which
comparisons are asked (`rounds/judge.py`).

    portable({"name": "both_orders", "oracle": {"name": "reward_model", "model": "org/rm"}})  ->  True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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


def waits_for_others(section: Mapping[str, Any]) -> bool:
    """Whether the oracle of a recipe's section asks models behind URLs, and computes next to nothing here itself."""
    names = [one.get("name") for one in _sections(section)]
    return "llm_judge" in names and {"llm_judge", *WRAPPERS, "calibrated", "cached", "rules"}.issuperset(names)


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
