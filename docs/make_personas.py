"""Writes src/sparring/data/personas.jsonl: personas of our own making, in ALOE's form (profile and personality).

Held-out personas share no job, pastime, pet, food or wish with those of training. Every sentence of a profile is one
fact, which the simulated user of `persona_chat` tells in one turn.

    python docs/make_personas.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/sparring/data/personas.jsonl"
PARTS = {
    "train": {
        "jobs": [
            "carpenter",
            "nurse",
            "baker",
            "geologist",
            "librarian",
            "plumber",
            "violinist",
            "farmer",
            "dentist",
            "welder",
        ],
        "pastimes": [
            "keeps bees on the roof",
            "builds model ships",
            "sings in a choir",
            "climbs mountains in summer",
            "restores old radios",
            "plays chess by mail",
            "swims in cold lakes",
            "grows prize pumpkins",
            "paints portraits of neighbours",
            "collects maps of islands",
        ],
        "homes": [
            "has a greyhound called Pip",
            "has two cats called Salt and Pepper",
            "has a parrot that speaks Spanish",
            "has three goats and a donkey",
            "has a tortoise older than the house",
            "lives with a rabbit called Hazel",
        ],
        "foods": [
            "eats no meat",
            "loves very hot curry",
            "cannot eat gluten",
            "drinks four coffees a day",
            "bakes rye bread every Sunday",
            "is fond of smoked fish",
        ],
        "wishes": [
            "is learning Welsh",
            "saves money for a trip to Patagonia",
            "wants to run a marathon in autumn",
            "hopes to open a small cinema",
            "plans to build a boat",
            "is writing a book on lighthouses",
        ],
    },
    "held_out": {
        "jobs": ["potter", "astronomer", "tailor", "pilot", "gardener", "chemist"],
        "pastimes": [
            "dances tango on Fridays",
            "repairs clocks at night",
            "photographs thunderstorms",
            "plays the banjo in a band",
            "sails a small dinghy",
            "fences twice a week",
        ],
        "homes": [
            "has a terrier called Button",
            "has an aquarium of seahorses",
            "has four hens in the yard",
            "has a horse called Juniper",
        ],
        "foods": ["is allergic to nuts", "loves dark chocolate", "cooks Korean dishes", "drinks only green tea"],
        "wishes": [
            "wants to see the northern lights",
            "is learning to juggle",
            "hopes to restore a windmill",
            "plans a bicycle tour of Japan",
        ],
    },
}
TRAITS = [
    "is blunt and likes short answers",
    "is warm and likes to be asked back",
    "is dry and likes a joke",
    "is shy and likes patience",
    "is curious and likes details",
    "is lively and likes enthusiasm",
    "is practical and likes plain advice",
    "is dreamy and likes images",
]
COUNTS = {"train": 240, "held_out": 48}


def persona(split: str, rng: random.Random) -> dict[str, str]:
    """One persona; each of its sentences is a fact."""
    who, parts = rng.choice(("She", "He")), PARTS[split]
    facts = [f"is a {rng.randint(22, 68)}-year-old {rng.choice(parts['jobs'])}"]
    facts += [rng.choice(parts[name]) for name in ("pastimes", "homes", "foods", "wishes")]
    profile, personality = (" ".join(f"{who} {fact}." for fact in group) for group in (facts, rng.sample(TRAITS, 2)))
    return {"profile": profile, "personality": personality, "split": split}


def main() -> None:
    """Write the file anew."""
    rows = [row for split, count in COUNTS.items() for row in _different(split, count, random.Random(split))]
    TARGET.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _different(split: str, count: int, rng: random.Random) -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    while len(found) < count:
        row = persona(split, rng)
        found.setdefault(row["profile"], row)
    return [*found.values()]


if __name__ == "__main__":
    main()
