"""Workers that start in the middle of a stage; without a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from sparring.fleet.join import has_ray
from sparring.fleet.work import Shards

pytestmark = pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'")


class Starting:
    """A cluster whose only worker is still starting."""

    def __init__(self) -> None:
        from sparring.fleet.pool import Member

        self.members = [Member("id", "10.0.0.1", None, "ready")]
        self.made: Counter[str] = Counter()

    def check(self, member: Any, theirs: Mapping[str, Any]) -> None:
        member.ready = None
        raise ValueError(f"torch is {theirs['torch']} there")

    def replace(self, member: Any, error: Exception) -> None:
        raise AssertionError("nothing was lost")


def test_a_worker_that_never_starts_ends_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.fleet import pool

    waited: list[float | None] = []

    def wait(references: list[Any], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]]:
        waited.append(timeout)
        return [], references

    monkeypatch.setattr(pool.ray, "wait", wait)
    with pytest.raises(pool.FleetError, match=r"node 10\.0\.0\.1 started no worker in 20 minutes"):
        list(pool.deal(Starting(), "sample own", "key", [None], Shards([0], str)))
    assert waited == [1200.0]


def test_a_worker_that_starts_in_the_middle_of_a_stage_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.fleet import pool

    monkeypatch.setattr(pool.ray, "wait", lambda references, num_returns, timeout: (references, []))
    monkeypatch.setattr(pool.ray, "get", lambda reference: {"torch": "2.1.0"})
    with pytest.raises(ValueError, match=r"torch is 2\.1\.0 there"):
        list(pool.deal(Starting(), "sample own", "key", [None], Shards([0], str)))
