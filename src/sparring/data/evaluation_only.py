"""Prompts that must not be trained on: IFEval's 541, known by their hashes (the prompts themselves are not shipped).

`ifeval_prompts.txt` holds the first 8 bytes of SHA-256 of each prompt's text as UTF-8, in hexadecimal, one a line.
Leaves out: prompts in other words (`evaluation/overlap.py` finds shared stretches).

    is_evaluation_only("Write a 300+ word summary of ...")  ->  True
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources

FILE = "ifeval_prompts.txt"


@cache
def _digests() -> frozenset[str]:
    return frozenset(resources.files("sparring").joinpath("data", FILE).read_text(encoding="ascii").split())


def is_evaluation_only(text: str) -> bool:
    """Whether a prompt's text is that of one of IFEval's prompts."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] in _digests()


def refuse_evaluation_only(texts: Iterable[str], field: str) -> None:
    """Raise ValueError where one of the prompts, which `field` of a recipe names, is IFEval's."""
    for text in texts:
        if is_evaluation_only(text):
            raise ValueError(
                f"{field}: the prompt {text[:60]!r} is one of IFEval's {len(_digests())}, which are for evaluation "
                "only: a policy trained on them cannot be measured by them. Remove them all (`sparring evaluate "
                "overlap` lists them)."
            )
