"""What a resumed run may change: rounds, fits not yet made, the evaluation, and what chooses no result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from command import sparring
from sparring.models.identity import hash_weights
from sparring.recipe.reading import parse_recipe
from sparring.rounds.resume import _may_change
from sparring.rounds.run import run
from sparring.rounds.store import Store
from sparring.runtime.errors import Tripwire
from sparring.runtime.memory import OutOfMemory
from sparring.runtime.progress import Progress

Plain = dict[str, Any]


def go(plain: Plain, out: Path, rounds: int, **fit: Any) -> dict[str, Any]:
    evaluation = {**plain["evaluation"], "every_iterate": False, "samples": 1}
    plain = {**plain, "rounds": rounds, "fit": {**plain["fit"], **fit}, "evaluation": evaluation}
    return run(parse_recipe(plain), out, Progress(quiet=True))


def peak(out: Path, t: int) -> float:
    rows = (out / f"rounds/{t:03d}/fit.jsonl").read_text().splitlines()
    return max(json.loads(row)["learning_rate"] for row in rows)


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the stages whose work was done."""
    keys: list[str] = []
    true = Store.stage

    def stage(self: Store, key: str, inputs: Any, work: Any) -> Any:
        return true(self, key, inputs, lambda: keys.append(key) or work())

    monkeypatch.setattr(Store, "stage", stage)
    return keys


def test_later_rounds_take_new_settings_and_finished_ones_keep_theirs(
    tiny_recipe: Plain, tmp_path: Path, worked: list[str]
) -> None:
    out = tmp_path / "run"
    go(tiny_recipe, out, 1)
    first = hash_weights(out / "rounds/000/policy")
    worked.clear()
    summary = go(tiny_recipe, out, 2, learning_rate=1e-4)
    assert not [key for key in worked if key.startswith("rounds/000")]
    assert (peak(out, 0), peak(out, 1)) == (1e-3, 1e-4)
    kept = {"rounds/000": {"fit.learning_rate": 0.001}}
    assert summary["fit_settings"] == kept
    assert json.loads(sparring("status", out, "--json").out)["fit_settings"] == kept
    assert "round 1 was fitted before the recipe changed, with fit.learning_rate 0.001" in sparring("status", out).out
    assert "<b>0.001</b>" in (out / "report.html").read_text()

    shutil.rmtree(out / "rounds/000/policy")  # made again as it was
    worked.clear()
    go(tiny_recipe, out, 2, learning_rate=1e-4)
    assert worked == ["rounds/000/fit"]
    assert hash_weights(out / "rounds/000/policy") == first


def test_a_change_that_could_act_on_nothing_is_refused(tiny_recipe: Plain, tmp_path: Path, worked: list[str]) -> None:
    out = tmp_path / "run"
    go(tiny_recipe, out, 1)
    worked.clear()
    message = r"fit\.learning_rate = 0\.5 \(was 0\.001\): all 1 rounds in .* are fitted already.*rounds.*--out"
    with pytest.raises(ValueError, match=message):
        go(tiny_recipe, out, 1, learning_rate=0.5)
    go(tiny_recipe, out, 1)
    go(tiny_recipe, out, 1, micro_batch_tokens=4096)  # memory, not the result: the evaluation may need it
    assert worked == []
    older = yaml.safe_load((out / "recipe.yaml").read_text())
    del older["fit"]["attention"]  # a field that came after this run began is no change
    (out / "recipe.yaml").write_text(yaml.safe_dump(older))
    go(tiny_recipe, out, 1)
    assert worked == []
    shutil.rmtree(out / "rounds/000/policy")
    go(tiny_recipe, out, 1, learning_rate=0.5)
    assert peak(out, 0) == 0.5
    assert not json.loads((out / "fit_settings.json").read_text())


def test_a_run_goes_on_after_a_tripwire_with_other_settings(
    tiny_recipe: Plain, tmp_path: Path, worked: list[str]
) -> None:
    out = tmp_path / "run"
    bound = {"repetition": None, "kl_to_iterate": 1e-9}
    with pytest.raises(Tripwire, match="kl_to_iterate"):
        go(tiny_recipe, out, 1, tripwires=bound)
    worked.clear()
    with pytest.raises(Tripwire, match="kl_to_iterate"):
        go(tiny_recipe, out, 1, tripwires=bound, learning_rate=1e-4, layout="padded")
    assert worked == ["rounds/000/anchor", "rounds/000/fit"]  # anchors are measured as the fit measures
    assert go(tiny_recipe, out, 1, layout="padded")["headline"]
    assert json.loads((out / "fit_settings.json").read_text()) == {}


def again(plain: Plain, out: Path, changes: Plain) -> dict[str, Any]:
    short = {**plain["evaluation"], "every_iterate": False, "samples": 1, "prompts": 2}
    plain = {**plain, "rounds": 1, "evaluation": short}
    for name, section in changes.items():
        plain[name] = {**plain[name], **section}
    return run(parse_recipe(plain), out, Progress(quiet=True))


def test_an_evaluation_changes_without_training_again(tiny_recipe: Plain, tmp_path: Path, worked: list[str]) -> None:
    out = tmp_path / "run"
    again(tiny_recipe, out, {})
    worked.clear()
    summary = again(tiny_recipe, out, {"evaluation": {"oracles": [{"name": "panel"}]}})
    assert worked == ["evaluation/summary"]
    assert [judgment["name"] for judgment in summary["judgments"]][1] == "panel"
    worked.clear()
    assert again(tiny_recipe, out, {"evaluation": {"samples": 2}})["headline"]["samples"] == 2
    assert worked == [f"evaluation/{name}" for name in ("sample-0", "measure-0", "sample-1", "measure-1", "summary")]


def test_where_and_how_fast_may_change_and_what_is_sampled_may_not(
    tiny_recipe: Plain, tmp_path: Path, worked: list[str]
) -> None:
    out = tmp_path / "run"
    again(tiny_recipe, out, {})
    worked.clear()
    again(tiny_recipe, out, {"sampling": {"batch_size": 3}, "fit": {"checkpoint_minutes": 2.0}})
    assert worked == []
    with pytest.raises(ValueError, match=r"recipe:\n  sampling\.temperature: 1\.0 -> 0\.3\nGive"):
        again(tiny_recipe, out, {"sampling": {"temperature": 0.3}})


def test_limits_of_served_models_may_change() -> None:
    assert all(map(_may_change, ("oracle.max_cost", "oracle.oracle.timeout", "data.teacher.attempts")))
    assert not any(map(_may_change, ("oracle.model", "data.teacher.temperature", "data.timeout", "algorithm.timeout")))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory.\nmore"), MemoryError()])
def test_out_of_memory_names_the_field_that_takes_less(error: Exception, tmp_path: Path) -> None:
    def work() -> Any:
        raise error

    with pytest.raises(OutOfMemory, match=r"rounds/000/fit ran out of memory: .* Lower fit\.micro_batch_tokens"):
        Store(tmp_path).stage("rounds/000/fit", {}, work)
    with pytest.raises(OutOfMemory, match=r"Lower sampling\.batch_size"):
        Store(tmp_path).stage("evaluation/sample-2", {}, work)
    with pytest.raises(type(error)):
        Store(tmp_path).stage("data", {}, work)
