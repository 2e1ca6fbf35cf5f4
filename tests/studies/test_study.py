"""A study of two methods and two seeds: runs, numbers, resuming, and what it refuses."""

from __future__ import annotations

import json
import linecache
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import sparring
from conftest import write_jsonl
from oracle_fakes import Scripted
from sparring.evaluation.intervals import Interval
from sparring.oracles.function import FunctionOracle
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.runtime.errors import OracleError, Tripwire
from sparring.runtime.files import hash_file, write_json
from sparring.runtime.layout import SUMMARY
from sparring.runtime.progress import Progress
from sparring.studies import study as module
from sparring.studies.numbers import markdown, numbers, spread
from sparring.studies.reading import Study, load_study
from sparring.studies.study import run_folder, run_study


@pytest.fixture
def file(tiny_recipe: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**tiny_recipe, "rounds": 1}, sort_keys=False))
    plain = {
        "base": "base.yaml",
        "set": ["evaluation.samples=2"],
        "methods": {
            "inpo": {"algorithm": {"name": "inpo", "samples": 2, "pairing": "iid"}},
            "dpo": {"algorithm": {"name": "dpo", "source": "own", "samples": 2}, "fit": {"learning_rate": 1e-4}},
        },
        "seeds": [0, 1],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return tmp_path / "study.yaml"


def test_a_study_from_the_command_line(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    code, printed, _ = sparring("study", file, "--out", out)
    assert code == 0
    result = json.loads((out / "study.json").read_text())
    assert [m["name"] for m in result["methods"]] == ["inpo", "dpo"]
    assert all(m["seeds"] == [0, 1] for m in result["methods"])
    assert (result["judge"].startswith("function"), result["failed"], result["answered_by_one_side"]) == (True, 0, 0)
    assert {(c["a"], c["b"]) for c in result["contests"]} == {("start", "inpo"), ("start", "dpo"), ("inpo", "dpo")}
    assert {c["prompts"] for c in result["contests"]} == {3}
    assert (out / "seed-0.html").exists()
    for word in ("inpo", "dpo", "Seeds 0, 1", "wins against start", "mean preference of the first over the second"):
        assert word in printed

    def no_stage(*_: Any, **__: Any):
        raise AssertionError("a finished study samples nothing")

    monkeypatch.setattr("sparring.sampling.transformers_engine.TransformersEngine.sample", no_stage)
    again = sparring("study", file, "--out", out, "--json")
    assert json.loads(again.out) == result


def test_tasks_are_scored_for_the_start_and_the_final_policies(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install 'sparring[leaderboard]')")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [
        {"sentence": f"The {a} saw the {b} and _ ran.", "option1": a, "option2": b, "answer": "12"[i % 2]}
        for i, (a, b) in enumerate([("ant", "bee"), ("cat", "dog"), ("elk", "fox")])
    ]
    data, out = write_jsonl(tmp_path / "winogrande.jsonl", rows), tmp_path / "out"
    options = ["--tasks", "winogrande", "--limit", 2, "--shots", 0, "--task-seeds", 1]
    missing = sparring("study", file, "--out", out, *options, "--data", "winogrande=nowhere.jsonl")
    assert (missing.code, "nowhere.jsonl: it is not a file" in missing.err) == (2, True)
    assert not (out / "inpo").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lm-eval's own
        done = sparring("study", file, "--out", out, *options, "--data", f"winogrande={data}")
    assert done.code == 0, done.err
    found = json.loads((out / "study.json").read_text())["tasks"]
    assert [(row["method"], row["seeds"], row["documents"], row["total"]) for row in found] == [
        ("inpo", 1, 2, 1267),
        ("dpo", 1, 2, 1267),
    ]
    assert "winogrande (acc, 0 shots, 2 of 1267)" in done.out
    assert "do not compare with published ones" in done.out
    assert len([*(out / "scores").glob("*/winogrande-*.json")]) == 3


def test_options_of_tasks_without_tasks_are_refused(file: Path):
    refused = sparring("study", file, "--limit", 5)
    assert (refused.code, "are for --tasks" in refused.err) == (2, True)


def test_tasks_that_name_none_are_refused(file: Path, tmp_path: Path):
    refused = sparring("study", file, "--out", tmp_path / "out", "--tasks", "")
    assert (refused.code, "names no task" in refused.err) == (2, True)
    assert not (tmp_path / "out/inpo").exists()


def test_a_run_that_stops_itself_is_reported(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = module.run

    def sometimes(recipe: Any, out: Path, progress: Progress, twins: Any) -> Any:
        if recipe.algorithm["name"] == "dpo":
            raise Tripwire("the policy collapsed")
        return made(recipe, out, progress, twins)

    monkeypatch.setattr(module, "run", sometimes)
    result = run_study(load_study(file), tmp_path / "out", Progress(quiet=True))
    assert [m["name"] for m in result["methods"]] == ["inpo"]
    assert [(s["method"], s["seed"]) for s in result["stopped"]] == [("dpo", 0), ("dpo", 1)]
    assert "dpo, seed 0, stopped itself: the policy collapsed" in markdown(result)


def test_sections_merge_and_the_algorithm_is_replaced(file: Path):
    recipes = load_study(file).recipes
    assert list(recipes) == [("inpo", 0), ("dpo", 0), ("inpo", 1), ("dpo", 1)]
    assert recipes["dpo", 1].seed == 1
    assert recipes["dpo", 0].fit.learning_rate == 1e-4
    assert recipes["dpo", 0].fit.batch_size == recipes["inpo", 0].fit.batch_size
    assert recipes["dpo", 0].evaluation.samples == 2
    assert "pairing" not in recipes["dpo", 0].algorithm


def test_a_study_of_an_earlier_version_goes_on_with_its_judge(file: Path, tmp_path: Path, tastes: Any):
    """Its runs name the function by the source of its module."""
    recipes, out = load_study(file).recipes, tmp_path / "out"
    before = run_study(Study({("inpo", 0): recipes["inpo", 0]}), out, Progress(quiet=True))
    judge = FunctionOracle("my_taste:judge")
    assert judge.former_identity is not None
    for name in ("manifest.json", SUMMARY):
        path = run_folder(out, "inpo", 0) / name
        path.write_text(path.read_text().replace(judge.identity, judge.former_identity))
        assert judge.former_identity in path.read_text()
    manifest = run_folder(out, "inpo", 0) / "manifest.json"
    stages = json.loads(manifest.read_text())
    stages["evaluation/summary"]["outputs"][SUMMARY] = hash_file(run_folder(out, "inpo", 0) / SUMMARY)
    write_json(manifest, stages)
    found = run_study(Study(recipes), out, Progress(quiet=True))
    assert found["judge"] == before["judge"] == judge.identity
    assert [list(method["judges"]) for method in found["methods"]] == [[judge.identity]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"a": {"algorithm": {"name": "inpoo"}}}}, "method a: .*inpoo"),
        ({"methods": {"../up": {}}}, "names a folder"),
        ({"methods": {"start": {}}}, "names a folder"),
        ({"methods": {}}, "methods"),
        ({"seeds": [1, 1]}, "one is there twice"),
        ({"base": "not-there.yaml"}, "does not exist"),
        ({"methods": {"a": {}, "b": {"oracle": {"name": "panel"}}}}, "method b: oracle is not that of a"),
        ({"methods": {"a": {}, "b": {"evaluation": {"samples": 3}}}}, "method b: evaluation is not that of a"),
        ({"methods": {"a": {}, "b": {"sampling": {"temperature": 0.5}}}}, "method b: sampling is not that of a"),
        ({"methods": {"a": {}, "b": {"rounds": 3}}}, "method b: rounds is not that of a"),
        ({"set": ["evaluation={every: 1, patience: 2}"]}, r"patience = 2 would end runs after different"),
        ({"methods": {"a": {}, "b": {"data": {"prompts_per_round": 2}}}}, "method b: data.prompts_per_round is not"),
        ({"methods": {"a": {}, "b": {"data": {"max_prompt_tokens": 9}}}}, "method b: data.max_prompt_tokens is not"),
        ({"methods": {"a": {}, "b": {"model": {"system": "Hi."}}}}, "method b: model.system is not that of a"),
        ({"methods": {"a": {}, "b": {"model": {"revision": "0" * 40}}}}, "method b: model.revision is not that of a"),
        ({"methods": {"a": {}, "b": {"model": {"lora": {"quantize": "nf4"}}}}}, "method b: model.lora.quantize is not"),
        ({"sedes": [1]}, "sedes"),
        ({"methods": {"a": {"seed": 3}}}, "a: seed would be ignored; give it under seeds"),
        ({"base": "base"}, "base: 'base' is neither a file nor a shipped recipe. Give 'base.yaml'"),
        ({"set": ["data=1"]}, "data = 1: give a section with keys such as train, held_out"),
        ({"set": ["model.lora=3"]}, "model.lora = 3: give a section with keys such as rank, alpha"),
        ({"set": ["evaluation.opponents=[3]"]}, "evaluation.opponents.0 = 3: give a section with keys such as model"),
        ({"set": ["..=1"]}, "--set '..=1': write it as section.field=value"),
        ({"set": ["seed=3"]}, "set: seed would be ignored; give it under seeds"),
    ],
)
def test_bad_input(file: Path, change: dict[str, Any], message: str):
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **change}, sort_keys=False))
    with pytest.raises(ValueError, match=message):
        load_study(file)


@pytest.fixture
def tastes(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two methods of one seed, judged by a function whose code the returned call changes."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def taste(code: str) -> None:
        (tmp_path / "my_taste.py").write_text(f"def judge(prompt, a, b):\n    {code}\n")
        sys.modules.pop("my_taste", None)
        linecache.clearcache()

    judge = {"name": "function", "path": "my_taste:judge"}
    base = {**yaml.safe_load((tmp_path / "base.yaml").read_text()), "oracle": judge}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "seeds": [0]}, sort_keys=False))
    taste("return 0.5 + 0.4 * ((len(a) > len(b)) - (len(a) < len(b)))")
    yield taste
    sys.modules.pop("my_taste", None)


def test_a_judge_whose_code_changed_is_not_mixed_with_the_first(file: Path, tmp_path: Path, tastes: Any):
    """A method added afterwards trained on the opposite taste, and stood in the same table."""
    recipes, out = load_study(file).recipes, tmp_path / "out"
    inpo = {("inpo", 0): recipes["inpo", 0]}
    before = run_study(Study(inpo), out, Progress(quiet=True))
    tastes("return 0.5 + 0.4 * ((len(a) < len(b)) - (len(a) > len(b)))")
    assert run_study(Study(inpo), out, Progress(quiet=True)) == before  # nothing is asked
    with pytest.raises(ValueError, match=r"oracle: method inpo, seed 0, was judged by .* Give another --out"):
        run_study(Study(recipes), out, Progress(quiet=True))
    assert not (out / "dpo").exists()
    unjudged = {key: recipe.model_copy(update={"oracle": None}) for key, recipe in recipes.items()}
    with pytest.raises(ValueError, match="new runs would be by nobody"):
        run_study(Study(unjudged), out, Progress(quiet=True))
    (out / "verdicts.jsonl").unlink()
    with pytest.raises(OracleError, match=r"verdicts of it are missing, but the recipe's judge is now"):
        run_study(Study(inpo), out, Progress(quiet=True))
    tastes("return")
    (tmp_path / "my_taste.py").write_text("")
    with pytest.raises(OracleError, match="cannot be built any more"):
        run_study(Study(inpo), out, Progress(quiet=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"methods": {"a": {}, "b": {"data": {"train": {"path": "no.jsonl"}}}}},
            "method b: data.train: 'no.jsonl' is",
        ),
        ({"set": ["model.path=./no-model"]}, "method inpo: model.path: './no-model' holds no config.json"),
        ({"set": ["oracle.nonsense=3"]}, "oracle.nonsense: unknown key"),
        ({"set": ["oracle.path=oracle_fakes:nobody"]}, "oracle.path: cannot import"),
        ({"set": ["evaluation.oracles=[{name: nobody}]"]}, "evaluation.oracles.0: oracle.name: unknown"),
    ],
)
def test_what_a_run_would_lack_is_found_before_the_first(
    file: Path, tmp_path: Path, change: dict[str, Any], message: str
):
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **change}, sort_keys=False))
    for more in (["--check"], []):
        refused = sparring("study", file, "--out", tmp_path / "out", *more)
        assert (refused.code, message in refused.err) == (2, True), refused.err
    assert not (tmp_path / "out").exists()


def test_check_names_the_runs(file: Path):
    checked = sparring("study", file, "--out", "here", "--check")
    assert checked.out.split() == [f"here/{name}/seed-{seed}" for seed in (0, 1) for name in ("inpo", "dpo")]


def test_methods_may_train_in_their_own_ways(file: Path):
    ways = {"model": {"lora": {"rank": 4}}, "fit": {"epochs": 2}, "data": {"max_response_tokens": 9}}
    plain = {**yaml.safe_load(file.read_text()), "methods": {"a": {}, "b": ways}}
    file.write_text(yaml.safe_dump(plain, sort_keys=False))
    assert load_study(file).recipes["b", 0].model.lora is not None


def test_a_method_given_twice_is_an_error(file: Path):
    file.write_text("base: base.yaml\nmethods:\n  a: {}\n  a: {}\n")
    with pytest.raises(ValueError, match="not readable YAML"):
        load_study(file)


@pytest.mark.parametrize("text", ["", "- base"])
def test_a_file_without_keys(file: Path, text: str):
    file.write_text(text)
    with pytest.raises(ValueError, match="must hold the keys base and methods"):
        load_study(file)


@pytest.mark.parametrize("verb", [("study", "study.yaml"), ("study", "study.yaml", "--check"), ("run", "base.yaml")])
def test_a_bad_file_starts_no_other_process(file: Path, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    def no_ranks(*_: Any):
        raise AssertionError("no rank is needed to read a file")

    monkeypatch.setattr("sparring.runtime.launch.launch", no_ranks)
    monkeypatch.chdir(file.parent)
    if "--check" in verb:
        assert sparring(*verb, "--devices", 2).code == 0
    Path("base.yaml").write_text("model: {pat: x}")
    refused = sparring(*verb, "--devices", 2)
    assert (refused.code, "model.pat: unknown key" in refused.err) == (2, True), refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("export", "STUDY"),
        ("status", "STUDY"),
        ("report", "STUDY"),
        ("samples", "STUDY"),
        ("samples", "STUDY", "--prompt", "Hi"),
        ("compare", "STUDY", "STUDY/inpo"),
        ("evaluate", "head-to-head", "STUDY", "STUDY", "--oracle", "panel", "--out", "STUDY/out"),
        ("evaluate", "overlap", "STUDY", "STUDY"),
    ],
)
def test_a_study_given_as_a_run_names_its_runs(tmp_path: Path, words: tuple[str, ...]):
    run = tmp_path / "inpo/seed-0"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("rounds: 1\n")
    refused = sparring(*(word.replace("STUDY", str(tmp_path)) for word in words))
    assert (refused.code, f"holds runs. Name one, such as '{run}'" in refused.err) == (2, True), refused.err


def test_a_missing_file():
    with pytest.raises(ValueError, match="does not exist"):
        load_study(Path("nowhere.yaml"))


def test_seeds_are_averaged_before_prompts_are_counted():
    """Joined by the prompt, whatever its place and whichever seeds have it."""
    one, two = {"x": 1.0, "y": 0.0, "z": float("nan")}, {"z": 1.0, "y": 0.0, "x": 0.0, "w": 0.5}
    (contest,) = numbers({}, {0: {("a", "b"): one}, 1: {("a", "b"): two}})["contests"]
    assert contest["preference"].value == pytest.approx((0.5 + 0.0 + 1.0 + 0.5) / 4)
    assert contest["by_seed"] == pytest.approx([0.5, 1.5 / 4])
    assert contest["prompts"] == 4


def test_a_prompts_samples_are_one_preference():
    """A prompt with many samples counts as one with few does, and what failed is left out of its mean."""
    asked = [Comparison("x", "a", b) for b in "bcde"] + [Comparison("y", "a", "b")]
    guard = Guard(Scripted([1.0, 0.5, math.nan, 0.0, 0.25, math.nan, math.nan]))
    assert module._judged(asked, guard) == {"x": 0.5, "y": 0.25}


REST = {"stopped": [], "answered_by_one_side": 0}
EMPTY = {"seeds": [0], "contests": [], "stopped": []}


def judged_by(name: str, judges: dict[str, tuple[str, bool, float]]) -> Any:
    """A summary with judgments: by identity name, whether training asked it, and the win rate."""
    judgments = [
        {"name": called, "identity": who, "seen_in_training": seen, "win_rate": Interval(rate, rate, rate), "failed": 1}
        for who, (called, seen, rate) in judges.items()
    ]
    return {"judgments": judgments}


def test_judges_of_one_name_are_kept_apart(monkeypatch: pytest.MonkeyPatch):
    """Two models behind `llm_judge` were averaged into one column, seen and unseen alike."""
    plain = dict.fromkeys(("tokens", "finished_share", "kl", "gap", "seconds", "algorithm"))
    monkeypatch.setattr("sparring.studies.numbers.run_row", lambda name, summary: {**plain, "kl_title": "KL"})
    ours: Any = judged_by("a", {"mini": ("llm_judge", True, 0.9), "big": ("llm_judge", False, 0.4)})
    other: Any = judged_by("b", {"mini": ("llm_judge", False, 0.5), "big": ("llm_judge", False, 0.5)})
    found = numbers({("a", 0): ours, ("a", 1): ours, ("b", 0): other}, {})
    assert found["methods"][0]["judges"]["mini"]["over_seeds"]["mean"] == 0.9
    assert found["methods"][0]["judges"]["big"]["win_rates"] == [0.4, 0.4]
    page = markdown({**found, **EMPTY})
    assert "start, llm_judge 1 (unseen by b) |" in page
    assert "start, llm_judge 2 (unseen) |" in page
    assert "- llm_judge 2 (unseen): `big`, 3 verdicts failed" in page


def test_contests_show_the_range_over_seeds():
    """Two equal methods whose seeds lie 3.6 points apart differ by the interval over prompts in every fourth study."""
    of_seed = [{("a", "b"): {str(i): p + i % 2 / 100 for i in range(20)}} for p in (0.495, 0.515, 0.565)]
    several = markdown({**numbers({}, dict(enumerate(of_seed))), "judge": "j", "failed": 0, **REST})
    assert "| a |  | 53 (44 to 61; seeds 50 to 57) |" in several
    assert "| b | 47 (39 to 56; seeds 43 to 50) |  |" in several
    assert "its 95 % interval over prompts and its range over the seeds" in several
    assert "for these seeds' policies; another seed may move a cell by more." in several
    single = markdown({**numbers({}, {0: of_seed[0]}), "judge": "j", "failed": 0, **REST})
    assert "| a |  | 50 (42 to 58) |" in single
    assert "range over the seeds" not in single


def test_a_spread_is_mean_least_and_most():
    assert spread([1.0, None, 3.0]) == {"mean": 2.0, "least": 1.0, "most": 3.0, "seeds": 2}
    assert spread([None]) is None


def test_the_shipped_study_is_sound():
    recipes = load_study(Path(__file__).parents[2] / "studies/family.yaml").recipes
    assert len(recipes) == 21
    budgets = {(r.rounds, r.data.prompts_per_round, r.sampling.max_new_tokens, r.fit) for r in recipes.values()}
    assert len(budgets) == 1
