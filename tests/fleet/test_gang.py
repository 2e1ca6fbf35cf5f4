"""What a group of ranks does when one of them raises; without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from sparring.fleet.join import has_ray
from sparring.runtime import devices
from sparring.runtime.errors import RaisedByAll

pytestmark = pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'")


def test_a_rank_that_raises_alone_stays_in_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.fleet import gang

    done: list[str] = []
    monkeypatch.setattr(gang, "_use_interface", lambda address: None)
    monkeypatch.setattr(gang.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    monkeypatch.setattr(devices, "store_at", lambda *where: None)
    monkeypatch.setattr(devices, "form_group", lambda store, number, size: done.append("formed"))
    monkeypatch.setattr(devices, "leave_group", lambda: done.append("left"))
    for error, expected in ((None, ["formed", "left"]), (RaisedByAll, ["formed", "left"]), (OSError, ["formed"])):
        done.clear()
        try:
            with gang.group(1, 2, ("10.0.0.1", 1)):
                if error is not None:
                    raise error("the disk is full")
        except (RaisedByAll, OSError):
            assert error is not None
        assert done == expected


def task_error(cause: Exception) -> Exception:
    """As Ray has it, which pickles the cause."""
    from ray.exceptions import RayTaskError  # type: ignore[reportMissingImports]

    error = RayTaskError("follow", "traceback", cause)
    error.cause = cause
    return error


def followed(monkeypatch: pytest.MonkeyPatch, *answers: tuple[Any, Any]) -> Any:
    """What comes of a group of two whose references answer in this order."""
    from sparring.fleet import gang
    from sparring.fleet.pool import Member

    coming = list(answers)

    def get(reference: Any) -> Any:
        answer = coming.pop(0)[1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(gang.ray, "wait", lambda references, num_returns: ([coming[0][0]], []))
    monkeypatch.setattr(gang.ray, "get", get)
    members = [Member("id", f"10.0.0.{number}", None, None) for number in (1, 2)]
    return gang.follow_events(EVENTS, ["follower"], members, lambda event: None)


EVENTS = iter(range(9))


def test_the_address_of_the_rank_that_raised_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import RayActorError  # type: ignore[reportMissingImports]

    from sparring.fleet.gang import RankGone, Result

    full, result = OSError("the disk is full"), (EVENTS, Result(7))
    assert followed(monkeypatch, ("follower", None), result) == 7
    assert followed(monkeypatch, ("follower", task_error(RaisedByAll("NaN"))), result) == 7  # rank 0 says it too
    with pytest.raises(OSError, match=r"node 10\.0\.0\.2: the disk is full"):
        followed(monkeypatch, ("follower", task_error(full)))
    with pytest.raises(OSError, match=r"node 10\.0\.0\.1: no memory"):
        followed(monkeypatch, (EVENTS, task_error(OSError("no memory"))))
    for lost in (task_error(devices.RankLost("gone")), RayActorError()):
        with pytest.raises(RankGone):
            followed(monkeypatch, ("follower", lost))


@pytest.mark.parametrize(("error", "ended"), [(OSError, [1, 2]), (RaisedByAll, [])])
def test_the_members_of_a_group_end_when_one_of_them_raises(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], ended: list[int]
) -> None:
    from sparring.fleet import cluster

    class Remote:
        def __getattr__(self, name: str) -> Any:
            return self

        def __call__(self, *args: Any, **options: Any) -> Any:
            return self

    killed: list[Any] = []
    members = [cluster.Member("id", f"10.0.0.{number}", Remote(), None) for number in (1, 2)]
    fleet = cluster.RayFleet.__new__(cluster.RayFleet)
    fleet.members, fleet.fits_on = list(members), 2
    fleet._seats = {}

    def raising(*args: Any) -> Any:
        raise error("here")

    for name in ("_begin", "_spread"):
        monkeypatch.setattr(fleet, name, lambda *args: None)
    monkeypatch.setattr(cluster.gang, "follow_events", raising)
    monkeypatch.setattr(cluster.ray, "put", lambda value: value)
    monkeypatch.setattr(cluster.ray, "get", lambda value: ("10.0.0.1", 1))
    monkeypatch.setattr(cluster.ray, "kill", killed.append)
    with pytest.raises(error, match="here"):
        fleet.together(cluster.Job("fit", dict, lambda *args: None, cluster.Path()), {})
    assert [number for number, member in enumerate(members, 1) if member.actor in killed] == ended
    assert [number for number, member in enumerate(members, 1) if member not in fleet.members] == ended
