"""Secrets left out of whatever is written or shown, in every spelling that a server or a library may give them.

Plain, escaped for JSON (any number of times), for a URL or for HTML, in base64 or hexadecimal, and with spaces or line
breaks between the characters. Leaves out: parts of a secret, and encryption.

    hide("your key is sk%2dabcdefgh", ("sk-abcdefgh",))  # "your key is ***"
"""

from __future__ import annotations

import base64
import html.entities
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

HIDDEN = "***"
SHORTEST_SECRET = 8
"""a shorter "key" is a placeholder for a server without keys; removing it from texts would spoil them"""
_BACKSLASH = r"(?:\\(?:u005[cC]|x5[cC]|134)?|%(?:25){0,4}5[cC]|&(?:amp;){0,4}(?:#92|#[xX]5[cC]|bsol);)"
_SPACE = rf"{_BACKSLASH}{{1,8}}(?:[nrt]|u00(?:0[9adAD]|20))|%(?:25){{0,4}}(?:0[9adAD]|20)|<br ?/?>"
_BETWEEN = rf"(?:[\s\u200b\u00ad\ufeff]|{_SPACE}){{0,4}}"
"""what may stand between two characters: white space, plain or escaped"""


def hide(value: Any, secrets: Sequence[str]) -> Any:
    """A text, or lists and objects of texts, with `***` in place of every secret of at least 8 characters."""
    pattern = _pattern(tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET))
    return value if pattern is None else _hidden(value, pattern)


def _hidden(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(HIDDEN, value)
    if isinstance(value, dict):
        return {_hidden(key, pattern): _hidden(part, pattern) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(part, pattern) for part in value]
    return value


@lru_cache(maxsize=32)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    ways = [way for secret in sorted(secrets, key=len, reverse=True) for way in _ways(secret)]
    return re.compile("|".join(ways)) if ways else None


def _ways(secret: str) -> list[str]:
    """Patterns of one secret: as characters, each in any spelling, and as bytes in base64 or hexadecimal."""
    whole = secret.encode()
    ways = [_BETWEEN.join(map(_spelt, secret)), "(?i:" + _BETWEEN.join(whole.hex()) + ")"]
    for shift in range(3):  # the secret may begin at any of the three places of a group ("user:secret")
        text = base64.b64encode(bytes(shift) + whole).decode()
        inner = text[(0, 2, 3)[shift] : 8 * (shift + len(whole)) // 6]
        ways.append(_BETWEEN.join({"+": r"(?:[+-]|%2[Bb])", "/": r"(?:[/_]|\\/|%2[Ff])"}.get(c, c) for c in inner))
    return ways


@lru_cache(maxsize=128)
def _spelt(character: str) -> str:
    """A pattern of one character: itself, or escaped any number of times."""
    if character == "\\":
        return _BACKSLASH + "{1,8}"
    code = ord(character)
    names = [name[:-1] for name, meaning in html.entities.html5.items() if meaning == character and name[-1] == ";"]
    entity = "|".join([*names, f"#0*{code}", f"#[xX]0*(?i:{code:x})"])
    plain = "[ +]" if character == " " else re.escape(character)
    escaped = rf"{_BACKSLASH}{{1,8}}(?:u(?i:{code:04x})|x(?i:{code:02x})|{code:03o})"
    encoded = rf"%(?:25){{0,4}}(?i:{code:02x})|&(?:amp;){{0,4}}(?:{entity});"
    return rf"(?:{escaped}|{_BACKSLASH}{{0,8}}(?:{plain}|{encoded}))"
