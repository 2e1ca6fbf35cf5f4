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


@pytest.mark.parametrize("comes", [True, False])
def test_where_the_last_worker_is_lost_a_machine_may_come_back(monkeypatch: pytest.MonkeyPatch, comes: bool) -> None:
    from sparring.fleet import cluster
    from sparring.fleet.pool import FleetError, Member

    back = {"NodeID": "new", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 2.0}}
    slept: list[float] = []
    monkeypatch.setattr(cluster, "nodes", lambda: [back] if comes and len(slept) > 3 else [])
    monkeypatch.setattr(cluster.time, "sleep", slept.append)
    monkeypatch.setattr(cluster.time, "monotonic", lambda: float(len(slept)))
    monkeypatch.setattr(cluster.ray, "kill", lambda actor: None)
    fleet = cluster.RayFleet.__new__(cluster.RayFleet)
    lost = Member("old", "10.0.0.1", None, None)
    fleet.members, fleet.devices, fleet._restarts = [lost], None, Counter()
    fleet._seats = {"old": cluster.Seat("old", "10.0.0.1", 1, 0)}

    def start(seat: Any) -> None:
        fleet.members.append(Member(seat.node, seat.address, None, "ready"))

    monkeypatch.setattr(fleet, "_start", start, raising=False)
    if comes:
        fleet.replace(lost, OSError("gone"))
        assert [member.node for member in fleet.members] == ["new"]
        assert len(slept) < 6
    else:
        with pytest.raises(FleetError, match="no worker is left, and no machine came for 180 s; the last was on node"):
            fleet.replace(lost, OSError("gone"))
        assert len(slept) == 180


def test_a_promised_gpu_that_torch_does_not_see_is_named() -> None:
    from sparring.fleet import cluster
    from sparring.fleet.facts import facts
    from sparring.fleet.pool import Member

    fleet = cluster.RayFleet.__new__(cluster.RayFleet)
    fleet._seats = {"id": cluster.Seat("id", "10.0.0.1", 0, 1)}
    member = Member("id", "10.0.0.1", None, "ready")
    with pytest.raises(ValueError, match=r"node 10\.0\.0\.1 was started with GPUs, and torch sees none there"):
        fleet.check(member, {**facts(), "gpus": []})
    fleet.check(member, {**facts(), "gpus": ["NVIDIA H100"]})
