"""Policies are evaluated as soon as they exist, the training may end early, and the best one has a name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import oracle_fakes
from campaigns import first
from command import sparring
from crash_fakes import Crashes, Killed
from sparring.models.identity import hash_weights
from sparring.planning.machine import parse_machine
from sparring.planning.plan import make_plan
from sparring.recipe.reading import parse_recipe
from sparring.rounds.evaluate import sample_held_out
from sparring.rounds.price import evaluation_comparisons
from sparring.rounds.resume import stage_names
from sparring.rounds.run import Run, run
from sparring.rounds.store import Store
from sparring.rounds.tables import SAMPLES
from sparring.runtime.files import read_table, write_table
from sparring.runtime.progress import Progress

Plain = dict[str, Any]


def go(plain: Plain, out: Path, **evaluation: Any) -> dict[str, Any]:
    return run(parse_recipe(changed(plain, **evaluation)), out, Progress(quiet=True))


def changed(plain: Plain, **evaluation: Any) -> Plain:
    return {**plain, "evaluation": {**plain["evaluation"], "samples": 1, **evaluation}}


def judged(out: Path) -> list[int]:
    return sorted(int(path.stem.partition("-")[2]) for path in out.glob("evaluation/judged-*.json"))


def fitted(out: Path) -> int:
    return len(list(out.glob("rounds/*/fit.jsonl")))


def trace(out: Path) -> dict[str, Any]:
    """What must not depend on kills."""
    manifest = json.loads((out / "manifest.json").read_text())
    files = [*out.glob("evaluation/*.parquet"), *out.glob("evaluation/judged-*"), *out.glob("evaluation/policy-*")]
    summary = json.loads((out / "evaluation/summary.json").read_text())
    return {
        "weights": {str(path.relative_to(out)): hash_weights(path) for path in sorted(out.glob("rounds/*/policy"))},
        "files": {str(path.relative_to(out)): path.read_bytes() for path in files},
        "facts": {key: entry["facts"] for key, entry in manifest.items()},
        "summary": {key: summary.get(key) for key in ("judgments", "matrix", "pool", "evaluated", "best", "stopped")},
    }


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the stages whose work was done."""
    keys: list[str] = []
    true = Store.stage
    monkeypatch.setattr(
        Store, "stage", lambda self, key, inputs, work: true(self, key, inputs, lambda: keys.append(key) or work())
    )
    return keys


@pytest.fixture
def graded(tiny_recipe: Plain, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], Plain]:
    """A recipe in whose evaluation policy t answers with so many letters (the start: ten); longer answers win."""

    def longer(prompt: str, a: str, b: str) -> float:
        return min(1.0, max(0.0, 0.5 + 0.01 * (len(a) - len(b))))

    def make(lengths: Sequence[int]) -> Plain:
        letters = [10, *lengths]

        def sample(policies: Any, recipe: Any, ref: Any, *rest: Any) -> dict[str, Any]:
            counts = sample_held_out(policies, recipe, ref, *rest)
            path = policies.store.path(f"evaluation/samples-{ref.round}.parquet")
            write_table(path, [{**row, "text": "x" * letters[ref.round]} for row in read_table(path)], SAMPLES)
            return counts

        monkeypatch.setattr("sparring.rounds.run.sample_held_out", sample)
        monkeypatch.setattr(oracle_fakes, "answer", longer)
        oracle = {"name": "function", "path": "oracle_fakes:moody"}
        evaluation = {"samples": 1, "every": 1, "best_by": "mean_preference", "every_iterate": False}
        return {**tiny_recipe, "oracle": oracle, "rounds": len(lengths), "evaluation": evaluation}

    return make


# ---- the same run, seen earlier -----------------------------------------------------------------


def test_evaluating_every_round_changes_no_result(tiny_recipe: Plain, tmp_path: Path) -> None:
    at_end, often = go(tiny_recipe, tmp_path / "end"), go(tiny_recipe, tmp_path / "often", every=1)
    for key in ("headline", "judgments", "matrix", "pool", "policies", "checks", "samples", "intransitivity"):
        assert often[key] == at_end[key], key
    for t in (0, 1):
        name = f"rounds/00{t}/policy"
        assert hash_weights(tmp_path / "end" / name) == hash_weights(tmp_path / "often" / name)
    assert [policy["round"] for policy in often["evaluated"]] == [1, 2]
    assert often["evaluated"][-1]["win_rate"] == often["headline"]["win_rate"]
    assert often["evaluated"][-1]["gap"] == often["pool"]["gaps"]["2"]
    assert not {"evaluated", "best", "stopped"} & at_end.keys()
    assert judged(tmp_path / "end") == []


def test_a_recipe_without_it_has_the_stages_that_it_had(tiny_recipe: Plain) -> None:
    step = ["sample", "judge", "pair", "anchor", "fit"]
    policies = [f"evaluation/{name}-{t}" for t in (0, 1, 2) for name in ("sample", "measure")]
    rounds = [f"rounds/00{t}/{name}" for t in (0, 1) for name in step]
    assert list(stage_names(parse_recipe(tiny_recipe))) == ["data", *rounds, *policies, "evaluation/summary"]


def test_a_finished_run_is_evaluated_later_without_training(
    tiny_recipe: Plain, tmp_path: Path, worked: list[str]
) -> None:
    go(tiny_recipe, tmp_path / "run")
    worked.clear()
    summary = go(tiny_recipe, tmp_path / "run", every=1, patience=1)
    assert worked == ["evaluation/judge-1", "evaluation/judge-2", "evaluation/summary"]
    assert len(summary["rounds"]) == 2  # a round that was trained is not thrown away
    worked.clear()
    go(tiny_recipe, tmp_path / "run", every=1, patience=1)
    assert worked == []
    assert set(stage_names(parse_recipe(changed(tiny_recipe, every=1)))) == set(Store(tmp_path / "run").manifest)


def test_every_second_round_and_the_last(tiny_recipe: Plain, tmp_path: Path, worked: list[str]) -> None:
    plain = {**tiny_recipe, "rounds": 3, "algorithm": {"name": "dpo"}}
    summary = go(plain, tmp_path / "run", every=2)
    assert judged(tmp_path / "run") == [2, 3]
    assert summary["matrix"]["policies"] == ["start", "2", "3"]
    assert worked.index("evaluation/judge-2") < worked.index("rounds/002/fit")
    assert worked == list(stage_names(parse_recipe(changed(plain, every=2))))


# ---- while it goes on ---------------------------------------------------------------------------


def test_figures_and_report_are_there_while_the_run_goes_on(
    graded: Callable[[Sequence[int]], Plain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, out = graded([30, 20, 25]), tmp_path / "run"
    true = Run._round

    def dies(self: Run, t: int) -> None:
        if t == 2:
            raise Killed
        true(self, t)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_round", dies)
        with pytest.raises(Killed):
            go(plain, out)
    assert not (out / "evaluation/summary.json").exists()
    status = sparring("status", out, columns=80)
    assert max(map(len, status.out.splitlines())) <= 80
    judge = f"function ({plain['oracle']['path']})"
    best = f"Best by mean preference over the start under “{judge}”: policy 1, 70.0%"
    assert "".join(best.split()) in "".join(status.out.split())
    rows = [line.split() for line in status.out.splitlines() if line[:1] in "12" and "to" in line]
    assert [row[:2] for row in rows] == [["1", "100.0"], ["2", "100.0"]]
    plain_status = json.loads(sparring("status", out, "--json").out)
    assert [one["mean_preference"]["value"] for one in plain_status["evaluated"]] == pytest.approx([0.7, 0.6])
    assert (plain_status["best"]["round"], plain_status["stopped"]) == (1, None)
    page = (out / "report.html").read_text()
    assert "2 of 3 rounds are trained" in page
    assert "policy 1 <b>best</b>" in page
    refused = sparring("report", out)
    assert refused.code == 2
    assert "report.html is about the policies that were evaluated so far" in refused.err
    exported = sparring("export", out, "--best", "--out", tmp_path / "early", "--dtype", "float32")
    assert exported.code == 0
    assert hash_weights(tmp_path / "early") == hash_weights(out / "rounds/000/policy")

    summary = go(plain, out)
    assert summary["best"]["round"] == 1
    assert "Best by mean preference" in repr(summary)
    assert "sparring export" in (page := (out / "report.html").read_text())
    assert "--best" in page
    assert "rounds are trained" not in page


VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "few places": ({}, r"judged-|report|policy-\d\.json|final"),
    "every place": ({"keep_iterates": 0}, "replace|rename|rmtree"),
}


@pytest.mark.parametrize("variant", first(1, VARIANTS))
def test_a_killed_run_evaluates_and_stops_the_same(
    variant: str, graded: Callable[[Sequence[int]], Plain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, places = VARIANTS[variant]
    plain = {**graded([40, 30, 20, 60]), **changes}
    go(plain, tmp_path / "whole", patience=1)
    expected = trace(tmp_path / "whole")
    assert expected["summary"]["stopped"]["after"] == 2
    with monkeypatch.context() as patch:
        crashes = Crashes(patch, tmp_path / "run", places)
        crashes.survive(lambda: go(plain, tmp_path / "run", patience=1))
    assert {"replace evaluation/.judged-1.json.partial", "replace .report.html.partial"} <= set(crashes.places)
    assert trace(tmp_path / "run") == expected


# ---- stopping -----------------------------------------------------------------------------------


def test_patience_ends_the_training_and_the_stop_stays(
    graded: Callable[[Sequence[int]], Plain], tmp_path: Path, worked: list[str]
) -> None:
    plain, out = graded([20, 30, 30, 25, 90]), tmp_path / "run"
    summary = go(plain, out, patience=2)
    stop = {"after": 4, "of": 5, "patience": 2, "by": "mean_preference", "best": 2}
    assert (summary["stopped"], summary["best"]["round"]) == (stop, 2)
    assert len(summary["rounds"]) == summary["recipe"]["rounds"] == fitted(out) == 4
    assert Store(out).manifest["evaluation/stop"]["facts"] == stop
    assert yaml.safe_load((out / "recipe.yaml").read_text())["rounds"] == 5  # what was asked for
    worked.clear()
    assert go(plain, out, patience=2)["stopped"] == stop
    assert worked == []

    status = sparring("status", out).out
    assert "finished: inpo, 4 of 4 rounds" in status
    assert "Stopped after 4 of 5 rounds: no mean_preference above that of policy 2 in 2 evaluated policies" in status
    versus = sparring("evaluate", "exploitability", out, "--out", tmp_path / "gap", "--json")
    assert json.loads(versus.out)["target"].endswith("run")  # its last policy is there
    assert sparring("export", out, "--out", tmp_path / "last", "--dtype", "float32").code == 0
    assert hash_weights(tmp_path / "last") == hash_weights(out / "rounds/003/policy")
    assert "evaluation.patience=null" in (out / "report.html").read_text()

    longer = go(plain, out, patience=None)
    assert (fitted(out), longer["best"]["round"], "stopped" in longer) == (5, 5, False)
    assert go(plain, out, patience=2)["best"]["round"] == 5  # round 5 is trained, and stays


def test_a_policy_that_is_made_again_may_undo_the_stop(
    graded: Callable[[Sequence[int]], Plain], tmp_path: Path
) -> None:
    plain, out = graded([30, 20, 90]), tmp_path / "run"
    assert go(plain, out, patience=1)["stopped"]["after"] == 2
    shutil.rmtree(out / "rounds/001/policy")
    plain = graded([30, 40, 90])
    plain["fit"] = {**plain["fit"], "learning_rate": 5e-4}
    summary = go(plain, out, patience=1)
    assert (len(summary["rounds"]), summary["best"]["round"]) == (3, 3)
    assert "evaluation/stop" not in Store(out).manifest


def test_the_best_policy_is_not_pruned(graded: Callable[[Sequence[int]], Plain], tmp_path: Path) -> None:
    plain, out = {**graded([20, 40, 15, 30]), "keep_iterates": 0}, tmp_path / "run"
    summary = go(plain, out)
    kept = [path.parent.name for path in sorted(out.glob("rounds/*/policy"))]
    assert kept == ["001", "003"]
    assert [policy["round"] for policy in summary["policies"]] == [0, 1, 2, 3, 4]
    card = tmp_path / "best"
    assert "policy 2" in sparring("export", out, "--best", "--out", card).out
    text = (card / "README.md").read_text()
    assert "chosen on the prompts that it is scored on" in text
    assert f"| function ({plain['oracle']['path']}) | yes | 100.0% |" in text
    assert "2 rounds of INPO" in text


def test_another_judge_judges_all_policies_again(
    graded: Callable[[Sequence[int]], Plain], tmp_path: Path, worked: list[str]
) -> None:
    plain, out = graded([20, 30]), tmp_path / "run"
    go(plain, out)
    worked.clear()
    go(plain, out, oracles=[{"name": "panel"}])
    assert worked == ["evaluation/judge-1", "evaluation/judge-2", "evaluation/summary"]
    worked.clear()
    go(plain, out, oracles=[{"name": "panel"}], best_by="win_rate")
    assert worked == ["evaluation/summary"]


# ---- costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("every_iterate", [True, False])
def test_the_price_is_what_the_evaluation_asks(every_iterate: bool, tiny_recipe: Plain, tmp_path: Path) -> None:
    asked: list[int] = []
    true = oracle_fakes.more_vowels
    recipe = parse_recipe(changed(tiny_recipe, every=1, samples=2, every_iterate=every_iterate))
    most = evaluation_comparisons(recipe, 3, trains=True)
    assert most == 3 * (15 if every_iterate else 1 + 2 * (4 + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.rounds.run.Run._prune", lambda self, t: None)
        patch.setattr(oracle_fakes, "answer", lambda *words: asked.append(1) or true(*words))
        plain = recipe.resolved() | {"oracle": {"name": "function", "path": "oracle_fakes:moody"}}
        run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    manifest = Store(tmp_path / "run").manifest
    training = sum(manifest[f"rounds/00{t}/judge"]["facts"]["comparisons"] for t in (0, 1))
    assert len(asked) <= training + most + 4  # two first questions in both orders


def test_a_plan_counts_the_policies_that_are_evaluated(tiny_recipe: Plain) -> None:
    plain = {**tiny_recipe, "rounds": 4}
    cases = {None: 2, 1: 5, 2: 3, 3: 3, 9: 2}
    for every, times in cases.items():
        recipe = parse_recipe(changed(plain, every=every, every_iterate=False))
        (stage,) = [one for one in make_plan(recipe, parse_machine("cpu:64")).stages if one.name == "evaluate"]
        assert stage.times == times, every


def test_no_best_to_export(graded: Callable[[Sequence[int]], Plain], tiny_model: Path, tmp_path: Path) -> None:
    plain, out = graded([5, 4]), tmp_path / "run"
    go(plain, out, every=None, best_by="win_rate")
    cases = {
        (out, "--best"): "did not evaluate its policies while it went on. Give its `sparring run` command",
        (out, "--best", "--round", 1): "--best with --round 1: both choose a policy",
        (tiny_model, "--best"): "is not a run (it has no recipe.yaml), so it has no evaluated policies",
    }
    for words, message in cases.items():
        refused = sparring("export", *words)
        assert refused.code == 2
        assert message in refused.err
    assert go(plain, out)["best"]["round"] == 0
    refused = sparring("export", out, "--best")
    assert "the start; of 2 evaluated policies none is better. The start needs no export" in refused.err
