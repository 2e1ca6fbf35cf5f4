"""A study that chooses a setting for each method: on other prompts, by the higher score, resumable, and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import sparring
from conftest import write_jsonl
from sparring.evaluation.intervals import Interval
from sparring.recipe.reading import load_recipe
from sparring.runtime.errors import Tripwire
from sparring.runtime.layout import RECIPE, SUMMARY
from sparring.runtime.progress import Progress
from sparring.studies import study as module
from sparring.studies.choice import at_ends, cells, choose, refuse_stored_values, values_of
from sparring.studies.reading import Choice, load_study, try_name
from sparring.studies.study import run_study

QUIET = Progress(quiet=True)
INPO = {"name": "inpo", "samples": 2, "pairing": "iid"}
DPO = {"name": "dpo", "source": "own", "samples": 2}


@pytest.fixture
def file(tiny_recipe: dict[str, Any], tmp_path: Path) -> Path:
    return write(tmp_path, tiny_recipe, {"field": "fit.learning_rate", "values": [1e-4, 3e-2], "seed": 7})


def write(folder: Path, recipe: dict[str, Any], choose: dict[str, Any], **study: Any) -> Path:
    """A study file whose choosing prompts have no checks, unless `choose` names others."""
    (folder / "base.yaml").write_text(yaml.safe_dump({**recipe, "rounds": 1}, sort_keys=False))
    prompts = write_jsonl(folder / "validation.jsonl", [{"prompt": "Say emu"}, {"prompt": "Say auk"}])
    plain = {
        "base": "base.yaml",
        "methods": {"inpo": {"algorithm": INPO}, "dpo": {"algorithm": DPO}},
        "seeds": [0, 1],
        "choose": {"held_out": {"path": str(prompts)}, **choose},
        **study,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return folder / "study.yaml"


def test_a_study_that_chooses_from_the_command_line(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    tries = [f"{out}/choice/{name}/{value}/seed-7" for name in ("inpo", "dpo") for value in ("0.0001", "0.03")]
    runs = [f"{out}/{name}/seed-{seed}" for seed in (0, 1) for name in ("inpo", "dpo")]
    checked = sparring("study", file, "--out", out, "--check")
    assert (checked.code, "".join(checked.out.split())) == (0, "".join([*tries, *runs]))

    code, printed, err = sparring("study", file, "--out", out)
    assert code == 0, err
    result = json.loads((out / "study.json").read_text())
    choice = result["choice"]
    judge = "wins against start, function (oracle_fakes:more_vowels)"
    assert (choice["field"], choice["seed"], choice["by"]) == ("fit.learning_rate", 7, judge)
    scores: dict[str, dict[float, float]] = {}
    for row in choice["rows"]:
        scores.setdefault(row["method"], {})[row["value"]] = row["score"]["value"]
    for method, own in scores.items():
        for value, score in own.items():
            summary = json.loads((out / f"choice/{method}/{value:g}/seed-7" / SUMMARY).read_text())
            assert [one["prompt"] for one in summary["samples"]] == ["Say emu", "Say auk"]
            assert summary["judgments"][0]["win_rate"]["value"] == score
        taken = max(own, key=lambda value: own[value])
        assert [load_recipe(out / method / f"seed-{s}" / RECIPE).fit.learning_rate for s in (0, 1)] == [taken, taken]
        assert f"{method} takes fit.learning_rate = {taken:g}" in err + printed
    page = (out / "study.md").read_text()
    assert f"fit.learning_rate of each method, the chosen value marked *, by {judge} in % with 95 % intervals" in page
    assert "| method | 0.0001 | 0.03 |" in page
    assert {(c["a"], c["b"]) for c in result["contests"]} == {("start", "inpo"), ("start", "dpo"), ("inpo", "dpo")}

    def no_stage(*_: Any, **__: Any):
        raise AssertionError("a finished study samples nothing")

    monkeypatch.setattr("sparring.sampling.transformers_engine.TransformersEngine.sample", no_stage)
    again = sparring("study", file, "--out", out, "--json")
    assert json.loads(again.out) == result


def test_rules_decide_where_code_can_check(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"prompt": "Say emu", "check": {"rule": "max_words", "count": 3}}, {"prompt": "Say auk"}]
    held_out = {"path": str(write_jsonl(tmp_path / "checked.jsonl", rows))}
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7, "held_out": held_out}
    file = write(tmp_path, {**tiny_recipe, "oracle": {"name": "panel"}}, settings, seeds=[0])
    choice = run_study(load_study(file), tmp_path / "out", QUIET)["choice"]
    assert choice["by"] == "rules passed of 1 prompts"
    for row in choice["rows"]:
        summary = json.loads(
            (tmp_path / "out/choice" / try_name(row["method"], row["value"]) / "seed-7" / SUMMARY).read_text()
        )
        (checked,) = [one["final_passes"] for one in summary["samples"] if one["check"]]
        assert row["score"].value == pytest.approx(sum(checked) / len(checked))


def scored(win_rates: dict[str, float]) -> Any:
    """Summaries of runs with these win rates, by name."""
    return {
        (name, 7): {"checks": None, "judgments": [{"name": "function", "win_rate": Interval(rate, 0.0, 1.0)}]}
        for name, rate in win_rates.items()
    }


@pytest.fixture
def choice(file: Path) -> Choice:
    found = load_study(file).choice
    assert found is not None
    return found


def test_the_higher_score_is_taken_and_the_first_of_equal_ones(choice: Choice) -> None:
    found = choose(choice, scored({"inpo/0.0001": 0.5, "inpo/0.03": 0.5, "dpo/0.0001": 0.4, "dpo/0.03": 0.6}), [])
    assert values_of(found) == {"inpo": 1e-4, "dpo": 3e-2}
    assert cells(found) == (
        ["method", "0.0001", "0.03"],
        [["inpo", "50.0 (0 to 100) *", "50.0 (0 to 100)"], ["dpo", "40.0 (0 to 100)", "60.0 (0 to 100) *"]],
    )
    assert at_ends(found) == "At an end of the values tried, so that a better one may lie beyond: inpo, dpo."
    rates = {key: one.fit.learning_rate for key, one in choice.settled(values_of(found)).items()}
    order = [(("inpo", 0), 1e-4), (("dpo", 0), 3e-2), (("inpo", 1), 1e-4), (("dpo", 1), 3e-2)]
    assert list(rates.items()) == order  # every method once, before any has its second seed


def test_a_value_between_others_is_at_no_end() -> None:
    rows = [{"method": "a", "value": v, "score": None, "chosen": v == 2} for v in (1, 2, 3)]
    assert at_ends({"rows": rows}) == ""


def test_a_run_that_stops_itself_is_not_chosen(choice: Choice, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = [{"method": "inpo/0.0001", "seed": 7, "reason": "it collapsed"}]
    found = choose(choice, scored({"inpo/0.03": 0.1, "dpo/0.0001": 0.4, "dpo/0.03": 0.6}), stopped)
    assert values_of(found)["inpo"] == 3e-2
    assert cells(found)[1][0] == ["inpo", "stopped", "10.0 (0 to 100) *"]

    def never(*_: Any) -> Any:
        raise Tripwire("it collapsed")

    monkeypatch.setattr(module, "run", never)
    with pytest.raises(
        ValueError, match=r"every run of method inpo stopped itself, whatever fit.learning_rate was.*0.03"
    ):
        run_study(load_study(file), file.parent / "out", QUIET)


def test_prompts_of_the_results_choose_nothing(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """Also where they stand in another file."""
    rows = [{"prompt": "Say emu"}, {"prompt": "Say gnu"}]
    held_out = {"path": str(write_jsonl(tmp_path / "other.jsonl", rows))}
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7, "held_out": held_out}
    file = write(tmp_path, tiny_recipe, settings)
    for more in (["--check"], []):
        refused = sparring("study", file, "--out", tmp_path / "out", *more)
        assert (refused.code, "1 of its 2 prompts are prompts of data.held_out too" in refused.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_missing_file_of_prompts_that_choose_is_named(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7, "held_out": {"path": "nowhere.jsonl"}}
    refused = sparring("study", write(tmp_path, tiny_recipe, settings), "--out", tmp_path / "out", "--check")
    assert refused.code == 2
    assert "method inpo: choose.held_out: 'nowhere.jsonl' is not a file" in " ".join(refused.err.split())
    assert "data.held_out" not in refused.err


def test_nothing_that_says_what_is_better(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    spin = {"spin": {"algorithm": {"name": "spin"}}}
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7}
    file = write(tmp_path, {**tiny_recipe, "oracle": None}, settings, methods=spin)
    for more in (["--check"], []):
        refused = sparring("study", file, "--out", tmp_path / "out", *more)
        assert (refused.code, "no prompt has a check, and the recipe has no oracle" in refused.err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "choose: seed = 1 is one of the study's"),
        ({"values": [1e-4]}, "choose.values"),
        ({"values": [1e-4, 0.0001]}, "one is there twice"),
        ({"values": [1e-4, "much"]}, "choose.values.1"),
        ({"values": [1e-4, -1.0]}, "method inpo: .*fit.learning_rate"),
        ({"field": "fit.learning_rat"}, "method inpo: there is no fit.learning_rat to choose"),
        ({"field": "learning_rate"}, "field = 'learning_rate': give section.field"),
        ({"field": "sampling.batch_size", "values": [1, 2]}, r"choose: methods must agree in sampling\.batch_size"),
        ({"field": "algorithm.lambda_", "values": [1, 2]}, "method inpo: .*lambda_"),
        ({"field": "algorithm.samples", "values": [2, 4]}, "method inpo: it sets algorithm.samples, which is chosen"),
        ({"field": "seed", "values": [5, 6]}, "field = 'seed': give section.field"),
        ({"field": "model.lora.rank", "values": [4, 8]}, "method inpo: there is no model.lora.rank to choose"),
        ({"feild": 1}, "choose.feild: unknown key"),
        ({"held_out": {"pat": "x"}}, "choose.held_out.pat: unknown key"),
    ],
)
def test_bad_input(file: Path, tiny_recipe: dict[str, Any], change: dict[str, Any], message: str) -> None:
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_study(write(file.parent, tiny_recipe, {**settings, **change}))


def test_a_method_that_sets_the_chosen_field_in_a_section_of_a_section(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    settings = {"field": "fit.tripwires.kl_to_iterate", "values": [10, 100], "seed": 7}
    methods = {"inpo": {"fit": {"tripwires": {"kl_to_iterate": 5.0}}}}
    with pytest.raises(ValueError, match=r"method inpo: it sets fit.tripwires.kl_to_iterate, which is chosen"):
        load_study(write(tmp_path, tiny_recipe, settings, methods=methods))


def test_a_change_for_all_methods_of_the_chosen_field(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7}
    with pytest.raises(ValueError, match=r"set: it sets fit\.learning_rate, which is chosen"):
        load_study(write(tmp_path, tiny_recipe, settings, set=["fit.learning_rate=3e-5"]))


def test_a_method_named_like_the_folder_of_choices(file: Path, tiny_recipe: dict[str, Any]) -> None:
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7}
    with pytest.raises(ValueError, match="'choice' names a folder"):
        load_study(write(file.parent, tiny_recipe, settings, methods={"choice": {}}))


def test_a_stored_run_of_another_value_is_not_continued(
    file: Path, tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have rounds at one rate and rounds at the other."""
    settings, out = {"field": "fit.learning_rate", "values": [1e-4, 3e-2], "seed": 7}, tmp_path / "out"
    stored = out / "inpo/seed-0"
    stored.mkdir(parents=True)
    base = load_study(file).recipes["inpo", 0]
    (stored / RECIPE).write_text(yaml.safe_dump(base.model_dump(mode="json")))
    with pytest.raises(
        ValueError, match=r"inpo, seed 0, was run with fit.learning_rate = 0.001, and would go on with 0.0"
    ):
        run_study(load_study(file), out, QUIET)
    assert not (out / "choice").exists()
    found = load_study(write(file.parent, tiny_recipe, {**settings, "values": [1e-4, 1e-3]})).choice
    assert found is not None
    refuse_stored_values(found, {("inpo", 0): stored}, {"inpo": 1e-3})
    with pytest.raises(ValueError, match=r"= 0.001, and would go on with 0.0001. Give another --out"):
        refuse_stored_values(found, {("inpo", 0): stored}, {"inpo": 1e-4})


def test_an_environment_does_not_choose(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    data = {part: {"path": "sparring:episodes", "split": part, "limit": 2} for part in ("train", "held_out")}
    settings = {"field": "fit.learning_rate", "values": [1e-4, 1e-3], "seed": 7}
    game = {**tiny_recipe, "data": data, "environment": {"name": "kuhn_poker"}, "oracle": None}
    file = write(tmp_path, game, settings, methods={"inpo": {"algorithm": INPO}})
    refused = sparring("study", file, "--out", tmp_path / "out", "--check")
    assert (refused.code, "choose: not with an environment" in " ".join(refused.err.split())) == (2, True), refused.err


def test_names_of_runs() -> None:
    assert try_name("inpo", 4e-5) == "inpo/4e-05"
