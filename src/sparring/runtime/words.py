"""Numbers in words, for people.

counted(1, "step")  ->  "1 step"; duration(192)  ->  "3 min 12 s"
"""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun, in the plural where it is due: `noun` with an s, unless given."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def rough(seconds: float) -> str:
    """A time that is only estimated: 40 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def duration(seconds: float | None) -> str:
    """12.3 s, 3 min 12 s, 2 h 05 min; ? where it is not known."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
