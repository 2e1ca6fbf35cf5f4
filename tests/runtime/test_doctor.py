"""The doctor: facts as plain data, and words about what is broken or slow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from command import sparring
from sparring.runtime import doctor

GB = 10**9


def found(**changes: Any) -> dict[str, Any]:
    cpu = {"kind": "cpu", "name": "x86", "threads": 8, "usable_cores": 8, "bfloat16": True}
    place = {"here": {"path": "/runs", "free": 500 * GB}}
    return {"devices": [cpu], "speed": {"float32": 100.0, "bfloat16": 90.0}, "disk": place, **changes}


def gpu(**changes: Any) -> dict[str, Any]:
    plain = {"kind": "cuda", "name": "H100", "memory": 80 * GB, "free": 79 * GB, "capability": "9.0", "bfloat16": True}
    return {**plain, **changes}


def test_doctor_prints_and_exits_well() -> None:
    code, out, err = sparring("doctor")
    assert (code, err) == (0, "")
    for word in ("versions", "torch", "CPU", "memory", "GFLOP/s", "demo", "no problems found"):
        assert word in out
    assert "demo: gguf" in sparring("doctor", "--verbose").out


def test_doctor_json() -> None:
    facts = json.loads(sparring("doctor", "--json").out)
    expected = {"versions", "extras", "devices", "memory", "disk", "speed", "environment", "problems", "notes"}
    assert facts.keys() == expected
    assert facts["problems"] == []
    assert facts["versions"]["torch"] is not None
    assert 0 < facts["memory"]["available"] <= facts["memory"]["total"]
    assert facts["speed"]["float32"] > 0
    assert facts["environment"]["token of the hub"] in ("set", "not set")


def test_a_missing_or_untested_requirement_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor.installed
    asked = {r.name: str(r) for r in doctor.requirements()}
    old = {"peft": "0.1.0", "typer": None}
    monkeypatch.setattr(doctor, "installed", lambda name: old.get(name, known(name)) if name in old else known(name))
    code, out, _ = sparring("doctor")
    assert code == 1
    assert f"problem: {asked['peft']}: 0.1.0 is installed. Install it with: pip install '{asked['peft']}'" in out
    assert f"problem: {asked['typer']}: missing." in out


def test_extras_are_read_from_the_installation() -> None:
    assert doctor.extras()["demo"]["gguf"] is not None
    assert {r.name for r in doctor.requirements()} >= {"torch", "transformers"}
    assert "gguf" not in {r.name for r in doctor.requirements()}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (found(), "No GPU"),
        (found(speed={"float32": 100.0, "bfloat16": 20.0}), "bfloat16 products run at 0.20 of float32's speed"),
        (
            found(devices=[{**found()["devices"][0], "bfloat16": False}], speed={"float32": 60.0, "bfloat16": 6.0}),
            "several times faster here and no less exact: bfloat16 would run at 0.10 of float32's",
        ),
        (found(devices=[{**found()["devices"][0], "threads": 1}]), "torch uses 1 of 8 cores"),
        (found(devices=[*found()["devices"], gpu(bfloat16=False)]), "H100 has no bfloat16"),
        (found(devices=[*found()["devices"], gpu(free=30 * GB)]), "another process holds 50.0 GB"),
        (found(devices=[*found()["devices"], gpu(), gpu()]), "2 GPUs"),
        (found(disk={"here": {"path": "/runs", "free": 3 * GB}}), "Only 3 GB free for here (/runs)"),
    ],
)
def test_notes_say_what_will_be_slow(facts: dict[str, Any], said: str) -> None:
    assert any(said in note for note in doctor.notes(facts))


def test_nothing_is_said_of_a_good_machine() -> None:
    assert doctor.notes(found(devices=[*found()["devices"], gpu()])) == []


def test_a_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for words in (["doctor"], ["doctor", "--json"]):
        assert "hf_secret" not in sparring(*words).out
