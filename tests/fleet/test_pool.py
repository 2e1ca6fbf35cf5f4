"""Workers that start in the middle of a stage; without a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace as Namespace
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

    def __init__(self, lost: bool = False) -> None:
        self.used: list[str] = []
        self.lost = lost
        self.use = self

    def remote(self, visible: str) -> Any:
        self.used.append(visible)
        return self


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster whose workers have GPUs: two of node one are visible, and a third is alone; node two has two."""
    from sparring.fleet import cluster
    from sparring.fleet.pool import Member

    def get(call: Any) -> Any:
        if isinstance(call, Actor) and call.lost:
            raise ray_exceptions().RayActorError
        return call

    monkeypatch.setattr(cluster.ray, "get", get)
    monkeypatch.setattr(cluster.ray, "kill", lambda actor: None)
    monkeypatch.setattr(cluster, "nodes", lambda: [{"NodeID": "one"}, {"NodeID": "two"}])
    fleet = cluster.RayFleet.__new__(cluster.RayFleet)
    fleet._seats = {name: cluster.Seat(name, name, 0, 1) for name in ("one", "two", "new")}
    fleet._together, fleet._groups, fleet.made, fleet._restarts = 1, {}, Counter(), Counter()
    places = [("one", "1"), ("two", "4"), ("one", "0"), ("one", "2"), ("two", "5")]
    fleet.members = [Member(node, node, Actor(), None, visible=number) for node, number in places]
    monkeypatch.setattr(
        fleet, "_start", lambda seat: fleet.members.append(Member(seat.node, seat.node, Actor(), "r")), raising=False
    )
    return fleet


def ray_exceptions() -> Any:
    import ray.exceptions  # type: ignore[reportMissingImports]

    return ray.exceptions


def checked(fleet: Any, member: Any, visible: str) -> None:
    from sparring.fleet.facts import facts

    fleet.check(member, {**facts(), "gpus": ["NVIDIA H100"], "visible": visible})


def lending(fleet: Any) -> dict[tuple[str, str], bool]:
    return {(member.node, member.visible): member.lends for member in fleet.members}


def test_an_engine_over_several_gpus_borrows_those_of_its_machine(gpus: Any) -> None:
    from sparring.fleet.pool import Deal, Member

    fleet = gpus
    by_gpu = {(member.node, member.visible): member for member in fleet.members}
    fleet._share_gpus("sample own", 1)
    assert not any(member.actor.used for member in fleet.members)
    fleet._share_gpus("sample own", 2)
    leads = {place for place, lends in lending(fleet).items() if not lends}
    assert leads == {("one", "0"), ("two", "4")}  # GPU 2 of node one has no neighbour left
    assert by_gpu["one", "0"].actor.used == ["0,1"]
    assert by_gpu["two", "4"].actor.used == ["4,5"]
    assert by_gpu["one", "1"].actor.used == ["1"]

    dealt = Deal(fleet, "sample own", "key", [None], Shards(range(9), str), iter(range(9)), 9)
    for member in fleet.members:
        member.actor.prepare = Namespace(remote=lambda *_: None)
        member.actor.make = Namespace(remote=lambda *_, own=member: f"{own.node} {own.visible} {len(own.held)}")
    dealt._feed()
    assert {reference[:5] for reference in dealt.flights} == {"one 0", "two 4"}

    again = Member("two", "two", Actor(), "ready")  # in the place of the lost one that led
    fleet.members.append(again)
    checked(fleet, again, "4")
    assert (again.lends, again.actor.used) == (False, ["4,5"])

    with pytest.raises(ValueError, match=r"tensor_parallel = 4, but no machine of the cluster has more than 3 GPUs"):
        fleet._share_gpus("sample own", 4)
    with pytest.raises(ValueError, match=r"tensor_parallel = 4"):
        fleet._share_gpus("sample own", 4)
    fleet._share_gpus("fit", 1)
    assert [member.actor.used[-1] for member in fleet.members] == [member.visible for member in fleet.members]
    assert not any(member.lends for member in fleet.members)


def test_a_machine_that_joins_makes_groups_of_its_own(gpus: Any) -> None:
    from sparring.fleet.pool import Member

    gpus._share_gpus("sample own", 2)
    joined = [Member("new", "new", Actor(), "ready") for _ in range(2)]
    gpus.members += joined
    checked(gpus, joined[0], "7")
    assert joined[0].lends
    checked(gpus, joined[1], "6")
    assert [(one.visible, one.lends, one.actor.used[-1]) for one in joined] == [("7", True, "7"), ("6", False, "6,7")]


def test_a_worker_that_starts_again_is_in_no_group_until_it_is_there(gpus: Any) -> None:
    gpus.members[0].visible = ""  # GPU 1 of node one: started, not yet checked
    gpus._share_gpus("sample own", 2)
    assert gpus._groups["one", "0"] == ["0", "2"]
    checked(gpus, gpus.members[0], "1")
    assert gpus.members[0].lends


def test_a_worker_that_is_lost_while_gpus_are_shared_out_is_replaced(gpus: Any) -> None:
    gpus.members[0].actor.lost = True
    gpus._share_gpus("sample own", 2)
    assert len(gpus.members) == 5
    assert gpus.members[-1].ready == "r"  # the new one, which is not checked yet


def test_an_engine_that_dies_every_time_stops_the_stage_with_its_own_words(gpus: Any) -> None:
    from sparring.fleet.pool import Deal, FleetError
    from sparring.runtime.errors import EngineError

    deal = Deal(gpus, "sample own", "key", [None], Shards(range(9), str), iter(range(9)), 0)
    error = EngineError("vLLM ended half-way (exit status 1). \n  CUDA error: unspecified launch failure")
    for attempt in range(3):
        member = gpus.members[0]
        member.held.append("reference")
        deal.flights["reference"] = member, 5
        if attempt < 2:
            deal._take_back(member, 5, error)
    with pytest.raises(FleetError, match=r"(?s)shard 5 lost 3 workers, the last on node.*unspecified launch failure"):
        deal._take_back(gpus.members[0], 5, error)
