"""Personas: how they stand in a prompt and in ALOE's files, what they know of themselves, and how well an answer fits.

Persona.read("Profile: She is a baker. She loves chess.\nPersonality: She is calm.").facts
->  ("She is a baker.", "She loves chess.")
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PROFILE, PERSONALITY = "Profile:", "Personality:"
SENTENCES = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[a-z]+")
PLAIN_WORDS = frozenset(
    {"about", "after", "also", "been", "being", "between", "both", "called", "cannot", "does", "enjoys", "from", "have"}
    | {
        "hers",
        "herself",
        "himself",
        "into",
        "likes",
        "lives",
        "loves",
        "more",
        "most",
        "often",
        "only",
        "other",
        "over",
    }
    | {"several", "some", "than", "that", "their", "them", "then", "there", "they", "this", "very", "wants", "were"}
    | {"what", "when", "where", "which", "while", "with", "year", "years", "your"}
)
"""of four letters and more, which say nothing of a person"""


class Persona(NamedTuple):
    """Who a simulated user is."""

    profile: str
    personality: str

    @classmethod
    def read(cls, text: str) -> Persona:
        """From a row's prompt: both, or a profile alone."""
        profile, _, personality = text.removeprefix(PROFILE).partition(f"\n{PERSONALITY}")
        return cls(profile.strip(), personality.strip())

    @property
    def facts(self) -> tuple[str, ...]:
        """The sentences of the profile."""
        return tuple(fact for fact in SENTENCES.split(self.profile) if fact)

    @property
    def words(self) -> frozenset[str]:
        """The words of the profile that say something of this person."""
        return frozenset(word for word in WORD.findall(self.profile.lower()) if len(word) > 3) - PLAIN_WORDS

    def mentions(self, text: str) -> int:
        """How many of those words a text has."""
        return len(self.words & set(WORD.findall(text.lower())))


def persona_prompt(profile: str, personality: str) -> str:
    """A persona as a row's prompt."""
    return f"{PROFILE} {profile}\n{PERSONALITY} {personality}"


@lru_cache(maxsize=8)
def read_personalities(path: str) -> tuple[str, ...]:
    """The personalities of a file of JSON strings, as ALOE publishes them.

    Raises:
        ValueError: the file is missing, holds none, or a line is no string.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"environment.personalities: {path!r} cannot be read: {error}. Give JSON strings, one a line."
        ) from error
    if not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError(f"environment.personalities: {path!r} must hold JSON strings, one a line, none of them empty.")
    return tuple(text.strip() for text in found)
