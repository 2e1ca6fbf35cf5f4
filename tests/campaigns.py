"""Cases of a campaign: the first few belong to `make test`, the others to `make test-more`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first(count: int, cases: Iterable[Any]) -> list[Any]:
    """Parameters of which all after the first `count` are marked `more`."""
    return [case if k < count else pytest.param(case, marks=pytest.mark.more) for k, case in enumerate(cases)]
