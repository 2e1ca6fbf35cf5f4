"""The words of texts, and how much texts repeat themselves.

repeating_share(["so so so so so so", "one two three four"])  ->  0.5
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

REPEATING = 0.5
"""a text repeats itself where less than this share of its trigrams is distinct"""


def words(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"\w+", text.lower())


def distinct_trigrams(text: str) -> float:
    """Share of a text's word trigrams that are distinct; 1 for texts of fewer than three words."""
    tokens = words(text)
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def repeating_share(texts: Sequence[str]) -> float:
    """Share of texts most of whose trigrams repeat."""
    return float(np.mean([repeats_itself(text) for text in texts])) if texts else 0.0


def repeats_itself(text: str) -> bool:
    """Whether most of the text's trigrams repeat."""
    return distinct_trigrams(text) < REPEATING
