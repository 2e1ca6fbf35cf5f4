"""Shards in this process, folders in pieces, and who gets a worker: all that needs no Ray."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from command import sparring
from sparring.fleet import folders, join
from sparring.fleet.facts import differences, facts, refuse_differences
from sparring.fleet.work import HERE, Shards, Work, current, using
from sparring.oracles.on_workers import portable


def test_here_makes_shards_in_order_and_opens_once() -> None:
    opened: list[object] = []

    def open_(places: object) -> Any:
        opened.append(places)
        return contextlib.nullcontext(lambda payload: payload * 2)

    work = Work("double", "key", dict, open_)
    assert list(HERE.results(work, Shards([3, 1], lambda index: index + 10))) == [(3, 26), (1, 22)]
    assert list(HERE.results(work, Shards([], lambda index: index))) == []
    assert opened == [{}]


def test_the_innermost_fleet_is_used() -> None:
    class Other:
        shares = True

        def results(self, work: Work, shards: Shards) -> Any:
            return iter(())

    other = Other()
    with using(other):
        assert current() is other
    assert current() is HERE


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a policy, whose longest file takes three pieces."""
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "PIECE", 4)
    folder = tmp_path / "policy"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"0123456789")
    (folder / "deep/empty").touch()
    return folder


def test_a_folder_travels_in_pieces(origin: Path, tmp_path: Path) -> None:
    files = folders.listing(origin)
    assert folders.place("key", origin, files) == origin
    pieces = list(folders.pieces(files))
    assert [piece.size for piece in pieces] == [0, 4, 4, 2]
    contents = [folders.read_piece(origin, piece) for piece in pieces]
    hashes = folders.hashes(origin, files)
    origin.rename(tmp_path / "elsewhere")
    assert folders.place("key", origin, files) is None
    for piece, content in zip(pieces, contents, strict=True):
        folders.write_piece("key", piece, content)
    assert folders.place("key", origin, files) is None  # not before it is whole
    folders.seal("key", hashes)
    received = folders.place("key", origin, files)
    assert received is not None
    assert (received / "model.safetensors").read_bytes() == b"0123456789"
    assert (received / "deep/empty").read_bytes() == b""


def test_a_folder_that_another_machine_also_has_under_that_name_is_not_taken_for_it(origin: Path) -> None:
    files = folders.listing(origin)
    os.utime(origin / "model.safetensors", ns=(1, 1))
    assert folders.place("key", origin, files) is None


def test_a_damaged_folder_is_refused(origin: Path) -> None:
    folders.write_piece("key", folders.Piece("model.safetensors", 0, 3), b"012")
    with pytest.raises(ValueError, match=r"model\.safetensors is not what was sent"):
        folders.seal("key", {"model.safetensors": "another hash"})


def test_folders_that_nothing_used_for_a_week_go(origin: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / "cache/fleet" / name).mkdir(parents=True)
    os.utime(tmp_path / "cache/fleet/old", (1, 1))
    (tmp_path / "cache/fleet/renamed.partial").symlink_to("gone")  # as a folder that is gone when it is looked at
    folders.forget_unused()
    assert sorted(path.name for path in (tmp_path / "cache/fleet").iterdir()) == ["new", "renamed.partial"]


def test_machines_that_differ_are_named() -> None:
    ours = facts()
    theirs = {**ours, "versions": {**ours["versions"], "torch": "2.1.0"}, "code": "0"}
    assert differences(ours, ours) == []
    with pytest.raises(ValueError, match=r"node 10\.0\.0\.2: Sparring's code is 0 there.*; torch is 2\.1\.0 there and"):
        refuse_differences(ours, {"10.0.0.1": ours, "10.0.0.2": theirs})


INSTALL = "Install it with: pip install 'sparring[ray]'."


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "has_ray", lambda: False)
    message = r"--cluster auto: Ray is not installed.*sparring\[ray\]"
    with pytest.raises(ValueError, match=message), join.cluster("auto", None):
        pass
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails
    monkeypatch.delitem(sys.modules, "sparring.fleet.examine", raising=False)
    for words in (("doctor", "--cluster"), ("run", "inpo", "--cluster")):
        for address in ("auto", "local"):
            code, _, err = sparring(*words, address)
            assert (code, err) == (2, f"error: --cluster {address}: Ray is not installed. {INSTALL}\n")


def test_doctor_asks_for_the_cluster_whose_folder_it_is_to_look_at() -> None:
    code, _, err = sparring("doctor", "--run", "runs/mine")
    assert code == 2
    assert err.startswith("error: --run: ")
    assert "--cluster auto" in err


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"name": "panel"}, True),
        ({"name": "both_orders", "oracle": {"name": "reward_model", "model": "org/rm"}}, True),
        ({"name": "jury", "oracles": [{"name": "panel"}, {"name": "function", "path": "mine:judge"}]}, False),
        ({"name": "local_judge", "model": "org/judge"}, True),
        ({"name": "local_judge", "model": "org/judge", "replies": "replies.jsonl"}, False),
        ({"name": "llm_judge", "model": "judge"}, False),
        ({"name": "mine:Oracle"}, False),
    ],
)
def test_which_oracles_workers_ask(section: dict[str, Any], expected: bool) -> None:
    assert portable(section) is expected


@pytest.mark.skipif(not join.has_ray(), reason="needs the extra: pip install 'sparring[ray]'")
def test_a_machine_that_cannot_take_part_is_named() -> None:
    from sparring.fleet.examine import found_problems, notes

    ours = facts()
    good = {**ours, "address": "10.0.0.1", "promised_gpus": 0, "sees_folder": True, "clock": 0.0, "disk_free": 9e10}
    good["shm_free"] = None
    assert (found_problems(ours, [good]), notes([good])) == ([], [])
    bad = {**good, "address": "10.0.0.2", "promised_gpus": 8, "gpus": [], "sees_folder": False, "clock": 61.0}
    bad |= {"versions": {**ours["versions"], "torch": "2.1.0"}, "disk_free": 3e9, "shm_free": 6.4e7}
    problems = found_problems(ours, [good, bad])
    assert [line.split(" is ")[0] for line in problems] == [
        "node 10.0.0.2: torch",
        "node 10.0.0.2 was started with 8 GPUs, and torch sees none there. Install torch for its driver, or start it "
        "with --num-gpus 0.",
    ]
    assert [line[:40] for line in notes([good, bad])] == [
        "node 10.0.0.2: 3 GB free for policies; o",
        "node 10.0.0.2: 0.1 GB free in /dev/shm: ",
        "node 10.0.0.2 does not see the folder: p",
        "clocks are 61 s apart (a slow answer cou",
    ]


@pytest.mark.skipif(not join.has_ray(), reason="needs the extra: pip install 'sparring[ray]'")
def test_before_the_run_its_nearest_folder_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.fleet import examine

    monkeypatch.setattr(examine, "nodes", list)
    assert examine.examine_machines(tmp_path)["notes"] == []
    run = tmp_path / "scratch/mine"
    expected = f"{run} is not there yet: whether machines see the folder was asked of {tmp_path}."
    assert examine.examine_machines(run)["notes"] == [expected]
    assert list(tmp_path.iterdir()) == []


def machine(number: int, **resources: float) -> dict[str, Any]:
    return {"NodeID": f"id{number}", "NodeManagerAddress": f"10.0.0.{number}", "Resources": resources}


@pytest.mark.skipif(not join.has_ray(), reason="needs the extra: pip install 'sparring[ray]'")
def test_who_gets_a_worker() -> None:
    from sparring.fleet.cluster import seats

    def places(devices: int | None, *there: dict[str, Any]) -> list[tuple[str, int, int]]:
        return [(seat.node, seat.cpus, seat.gpus) for seat in seats(there, devices)]

    small, large, head = machine(1, CPU=2.0), machine(2, CPU=4.0), machine(3)
    assert places(None, small, large, head) == [("id1", 2, 0), ("id2", 4, 0)]
    assert places(3, small, large, head) == [("id1", 1, 0), ("id2", 4, 0), ("id1", 1, 0)]
    assert len(places(9, small, large, head)) == 6
    assert places(None, small, machine(4, CPU=8.0, GPU=2.0)) == [("id4", 0, 1), ("id4", 0, 1)]
