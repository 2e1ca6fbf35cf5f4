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
    fleet._seats, fleet._together = {"id": cluster.Seat("id", "10.0.0.1", 0, 1)}, 1
    member = Member("id", "10.0.0.1", None, "ready")
    with pytest.raises(ValueError, match=r"node 10\.0\.0\.1 was started with GPUs, and torch sees none there"):
        fleet.check(member, {**facts(), "gpus": []})
    fleet.check(member, {**facts(), "gpus": ["NVIDIA H100"]})


class Actor:
    """A worker that notes which GPUs it is to use."""

    def __init__(self) -> None:
        self.used: list[str] = []
        self.use = self
        self.remote = self.used.append


def test_an_engine_over_several_gpus_borrows_those_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.fleet import cluster
    from sparring.fleet.facts import facts
    from sparring.fleet.pool import Deal, Member

    monkeypatch.setattr(cluster.ray, "get", lambda calls: calls)
    fleet = cluster.RayFleet.__new__(cluster.RayFleet)
    fleet._seats = {name: cluster.Seat(name, name, 0, 1) for name in ("one", "two")}
    fleet._together, fleet._groups, fleet.made = 1, {}, Counter()
    places = [("one", "1"), ("two", "4"), ("one", "0"), ("one", "2"), ("two", "5")]
    fleet.members = [Member(node, node, Actor(), None, visible=number) for node, number in places]
    by_gpu = {(member.node, member.visible): member for member in fleet.members}

    fleet._share_gpus("sample own", 1)
    assert not any(member.actor.used for member in fleet.members)
    fleet._share_gpus("sample own", 2)
    assert {place: member.lends for place, member in by_gpu.items()} == {
        ("one", "0"): False,
        ("one", "1"): True,
        ("one", "2"): True,  # no neighbour is left for it
        ("two", "4"): False,
        ("two", "5"): True,
    }
    assert by_gpu["one", "0"].actor.used == ["0,1"]
    assert by_gpu["two", "4"].actor.used == ["4,5"]
    assert by_gpu["one", "1"].actor.used == ["1"]

    again = Member("two", "two", Actor(), "ready")  # in the place of the lost one that led
    fleet.members.append(again)
    fleet.check(again, {**facts(), "gpus": ["NVIDIA H100"], "visible": "4"})
    assert (again.lends, again.actor.used) == (False, ["4,5"])

    dealt = Deal(fleet, "sample own", "key", [None], Shards(range(9), str), iter(range(9)), 9)
    for member in fleet.members:
        member.actor.make = member.actor
        member.actor.remote = lambda *_, own=member: f"{own.node} {own.visible} {len(own.held)}"
    dealt._feed()
    assert {reference[:5] for reference in dealt.flights} == {"one 0", "two 4"}

    for member in fleet.members:
        member.actor.remote = member.actor.used.append
    with pytest.raises(ValueError, match=r"tensor_parallel = 4, but no machine of the cluster has more than 3 GPUs"):
        fleet._share_gpus("sample own", 4)
    fleet._share_gpus("sample own", 1)
    assert [member.actor.used[-1] for member in fleet.members] == [member.visible for member in fleet.members]
    assert not any(member.lends for member in fleet.members)
