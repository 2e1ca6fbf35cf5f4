"""The forms in which servers ask for a wait."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from sparring.endpoints.waiting import asked_wait, reset_wait

THEN = 1_792_567_680.0
"""Wed, 21 Oct 2026 07:28:00 GMT"""
DATE = {"date": formatdate(THEN, usegmt=True)}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("40", 40.0),
        ("0.25", 0.25),
        (" 7 ", 7.0),
        ("5, 5", 5.0),
        ("-3", 0.0),
        ("1m30s", 90.0),
        ("120ms", 0.12),
        ("6m0s", 360.0),
        ("99999999", 99999999.0),
        (formatdate(THEN + 40, usegmt=True), 40.0),
        ("Wednesday, 21-Oct-26 07:28:40 GMT", 40.0),
        ("Wed Oct 21 07:28:40 2026", 40.0),
        ("2026-10-21T07:28:40Z", 40.0),
        (str(THEN + 40), 40.0),
        (str((THEN + 40) * 1000), 40.0),
        (formatdate(THEN - 40, usegmt=True), 0.0),
        ("nan", None),
        ("1e400", None),
        ("soon", None),
        ("", None),
        ("Wed, 99 Oct 99999 07:28:40 GMT", None),
    ],
)
def test_a_wait_is_read_in_every_form(value, seconds):
    wait = asked_wait({**DATE, "retry-after": value})
    assert wait == (seconds if seconds is None else pytest.approx(seconds, abs=1e-3))


def test_a_date_counts_from_our_own_clock_where_the_server_gives_none():
    assert asked_wait({"retry-after": formatdate(time.time() + 40, usegmt=True)}) == pytest.approx(40, abs=3)


def test_milliseconds_come_first():
    assert asked_wait({"retry-after-ms": "1500", "retry-after": "2"}) == 1.5
    assert asked_wait({"retry-after-ms": "many", "retry-after": "2"}) == 2.0


def test_only_the_limits_that_are_spent_count():
    headers = {
        "x-ratelimit-reset-requests": "1h",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-tokens": "6s",
        "x-ratelimit-remaining-tokens": "0",
    }
    assert reset_wait(headers) == 6.0
    assert reset_wait({**DATE, "X-RateLimit-Reset": str(int(THEN) + 30)}) == 30.0
    assert reset_wait({**DATE, "anthropic-ratelimit-requests-reset": "2026-10-21T07:28:20Z"}) == 20.0
    assert reset_wait({}) is None
