"""How long a server asks to be left alone, in every form that it may say so.

`Retry-After` in seconds or as a date (counted from the server's own `Date`, as clocks differ), `retry-after-ms`, and
the reset of a spent limit (`x-ratelimit-reset-requests: 1m30s`, a moment in seconds or milliseconds, or a date). Leaves
out: our own waits, where a server says nothing.

    asked_wait({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_RESET = re.compile(r".*rate-?limit\b.*\breset\b.*")
FIRST_MOMENT = 1e9
"""seconds: a number from here on is a moment since 1970, and not a wait"""


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds from now that a server asks to wait, by `Retry-After`; None where it does not say, or not readably."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None and milliseconds > 0:
        return milliseconds / 1000
    return _seconds(headers.get("retry-after", ""), _now(headers))


def reset_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until the limits of a server that are spent are new, at most; None where it names none."""
    waits = [wait for text in _resets(headers) if (wait := _seconds(text, _now(headers))) is not None]
    return max(waits, default=None)


def _resets(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        if _RESET.fullmatch(name.lower()):
            left = _number(headers.get(name.lower().replace("reset", "remaining"), "0"))
            if left is None or left <= 0:
                yield value


def _seconds(text: str, now: float) -> float | None:
    """A duration, a moment or a date as seconds from `now`."""
    text = text.strip().lower()
    number = _number(text.partition(",")[0])  # a header sent twice is joined by commas
    if number is not None:
        moment = number / 1000 if number >= FIRST_MOMENT * 1000 else number
        return max(0.0, moment - now if moment >= FIRST_MOMENT else number)
    parts = _PART.findall(text)
    if parts and "".join(amount + unit for amount, unit in parts) == text:
        return sum(float(amount) * _UNITS[unit] for amount, unit in parts)
    date = _date(text)
    return None if date is None else max(0.0, date - now)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> float | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text.strip().upper())
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (IndexError, OverflowError, TypeError, ValueError):
            continue
    return None


def _now(headers: Mapping[str, str]) -> float:
    """By the server's clock, where it says."""
    date = _date(headers.get("date", ""))
    return time.time() if date is None else date
