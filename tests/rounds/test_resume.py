"""A killed run goes on where it was: the same weights, the same samples, nothing lost or doubled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from campaigns import first
from conftest import TEMPLATE, tiny_llama
from crash_fakes import Crashes, Killed
from sparring.models.identity import hash_weights
from sparring.oracles.function import FunctionOracle
from sparring.recipe.reading import parse_recipe
from sparring.report.summary import read_summary
from sparring.rounds.resume import check_resumable, take_recipe
from sparring.rounds.run import run
from sparring.rounds.store import Made, Store
from sparring.runtime.files import read_table, write_text
from sparring.runtime.memory import release_memory
from sparring.runtime.progress import Progress

SHORT = {"evaluation.every_iterate": False, "evaluation.samples": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "spin": {"algorithm": {"name": "spin", "window": 2, "samples": 2}, **SHORT},
    "spac": {"algorithm": {"name": "spac"}, "data.collect": {"samples": 2}, "rounds": 1, **SHORT},
    "inpo": {},
    "roles": {
        "environment": {"name": "environment_fakes:WriterReader"},
        "oracle": None,
        "algorithm": {"name": "grpo", "baseline": "role", "samples": 2},
        "fit.epochs": 1,
        **SHORT,
    },
    "lora": {"model.lora": {"rank": 2, "dropout": 0.1}, **SHORT},
    "pruned": {"rounds": 3, "keep_iterates": 0, "fit.epochs": 1, **SHORT},
}
PLACES = {"inpo": "", "pruned": "rmtree|manifest|rename"}
"""of kills, by variant; without shards' single operations for the others, to be quick"""
Plain = dict[str, Any]


def plain_of(recipe: Plain, variant: str) -> Plain:
    """The tiny recipe with checkpoints after every step, and a variant's changes."""
    plain = {**recipe, "fit": {**recipe["fit"], "epochs": 2, "checkpoint_minutes": 0}}
    for key, value in VARIANTS[variant].items():
        section, _, field = key.partition(".")
        plain[section] = {**plain[section], field: value} if field else value
    return plain


def go(plain: Plain, out: Path) -> dict[str, Any]:
    return run(parse_recipe(plain), out, Progress(quiet=True))


def trace(out: Path) -> dict[str, Any]:
    """What must not depend on kills: weights, samples, judgments, which examples were used."""
    policies = sorted(out.glob("rounds/*/policy"))
    tables = [*out.rglob("samples*.parquet"), *out.rglob("verdicts.parquet")]
    tables += [*out.rglob("pairs.parquet"), *out.rglob("anchors.parquet"), *out.glob("data/*")]
    logs = [[json.loads(line) for line in log.read_text().splitlines()] for log in sorted(out.rglob("fit.jsonl"))]
    return {
        "weights": {str(p.relative_to(out)): hash_weights(p) for p in policies},
        "tables": {str(p.relative_to(out)): p.read_bytes() for p in tables},
        "losses": [[(row["step"], row["loss"], row["learning_rate"]) for row in log] for log in logs],
        "facts": {key: entry["facts"] for key, entry in json.loads((out / "manifest.json").read_text()).items()},
    }


UNDISTURBED: dict[str, dict[str, Any]] = {}
FOLDERS: dict[str, Path] = {}


@pytest.fixture
def undisturbed(tiny_recipe: Plain, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The trace of an undisturbed run of a variant, made once."""

    def get(variant: str) -> dict[str, Any]:
        if variant not in UNDISTURBED:
            out = tmp_path_factory.mktemp("undisturbed") / variant
            go(plain_of(tiny_recipe, variant), out)
            UNDISTURBED[variant], FOLDERS[variant] = trace(out), out
        return UNDISTURBED[variant]

    return get


def partials(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if "partial" in path.name]


def check_prompts(out: Path) -> None:
    """Every training prompt has its samples and its pair once."""
    for path in out.glob("rounds/*/samples.parquet"):
        rows = read_table(path)
        counts = Counter(row["example"] for row in rows)
        collected = out / "collect/train.parquet"
        train = collected if collected.exists() else out / "data/train.parquet"
        asked = path.with_name("prompts.parquet")  # by an environment, with as many replies as came
        assert counts.keys() == {row["example"] for row in read_table(asked if asked.exists() else train)}
        assert asked.exists() or len(set(counts.values())) == 1
        assert len({(row["example"], row["index"]) for row in rows}) == len(rows)
    for path in out.glob("rounds/*/pairs.parquet"):
        assert max(Counter(row["example"] for row in read_table(path)).values()) == 1


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key in expected:
        assert found[key] == expected[key], key


# ---- kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", first(2, VARIANTS))
def test_a_run_killed_after_every_change_of_the_disk_ends_the_same(
    variant: str,
    tiny_recipe: Plain,
    tmp_path: Path,
    undisturbed: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = undisturbed(variant)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        crashes = Crashes(patch, out, PLACES.get(variant, "replace|rename|checkpoint"))
        crashes.survive(lambda: go(plain_of(tiny_recipe, variant), out))
    same(trace(out), expected)
    assert partials(out) == []
    check_prompts(out)
    places = "\n".join(crashes.places)
    for count in range(1, len(json.loads((out / "manifest.json").read_text())) + 1):
        assert f"replace .manifest.json.partial of {count} stages" in places
    if variant == "pruned":
        assert "rmtree rounds/000/policy" in places
        return
    for inside in (
        "play.partial" if variant == "roles" else "samples.partial",
        "anchors.partial",
        "policy.partial",
        "fit.partial step",
        ".summary.json",
    ):
        assert inside in places


def kill_when(plain: Plain, out: Path, sign: str) -> None:
    """`sparring run` in a process of its own, sent SIGKILL when a file like `sign` is there."""
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(plain))
    tests = str(Path(__file__).parents[1])
    child = subprocess.Popen(
        [sys.executable, "-m", "sparring.cli.main", "run", str(recipe), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not any(out.glob(sign)) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    assert child.wait(timeout=60) == -signal.SIGKILL


@pytest.mark.parametrize(
    "sign", first(1, ["rounds/000/samples.partial/*.parquet", "rounds/000/fit.partial/checkpoint.pt"])
)
def test_sigkill(sign: str, tiny_recipe: Plain, tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]) -> None:
    plain, out = plain_of(tiny_recipe, "inpo"), tmp_path / "run"
    kill_when(plain, out, sign)
    assert not (out / "report.html").exists()
    go(plain, out)
    same(trace(out), undisturbed("inpo"))
    check_prompts(out)
    assert partials(out) == []


# ---- what is finished stays finished ------------------------------------------------------------


@pytest.fixture
def finished(tiny_recipe: Plain, tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]) -> tuple[Plain, Path]:
    """A recipe and a copy of its finished run."""
    undisturbed("inpo")
    out = tmp_path / "run"
    shutil.copytree(FOLDERS["inpo"], out)
    data = yaml.safe_load((out / "recipe.yaml").read_text())["data"]  # of the test that made the run
    return {**plain_of(tiny_recipe, "inpo"), "data": data}, out


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the stages whose work was done."""
    keys: list[str] = []
    true = Store.stage

    def stage(self: Store, key: str, inputs: Any, work: Callable[[], Made]) -> Any:
        return true(self, key, inputs, lambda: keys.append(key) or work())

    monkeypatch.setattr(Store, "stage", stage)
    return keys


def test_a_finished_run_does_nothing_again(finished: tuple[Plain, Path], worked: list[str]) -> None:
    plain, out = finished
    before = (out / "manifest.json").read_bytes()
    summary = go(plain, out)
    assert worked == []
    assert (out / "manifest.json").read_bytes() == before
    assert summary == read_summary(out / "evaluation/summary.json")


def test_a_deleted_file_is_made_again(
    finished: tuple[Plain, Path], worked: list[str], undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    plain, out = finished
    for name, key in {
        "data/held_out.parquet": "data",
        "rounds/000/samples.parquet": "rounds/000/sample",
        "rounds/000/verdicts.parquet": "rounds/000/judge",
        "rounds/001/pairs.parquet": "rounds/001/pair",
        "rounds/000/anchors.parquet": "rounds/000/anchor",
        "rounds/000/fit.jsonl": "rounds/000/fit",
        "evaluation/samples-1.parquet": "evaluation/sample-1",
        "evaluation/policy-2.json": "evaluation/measure-2",
        "evaluation/summary.json": "evaluation/summary",
    }.items():
        (out / name).unlink()
        go(plain, out)
        assert worked == [key]
        worked.clear()
    shutil.rmtree(out / "rounds/001/policy")
    go(plain, out)
    assert worked == ["rounds/001/fit"]
    same(trace(out), undisturbed("inpo"))


def test_what_depends_on_a_changed_file_runs_again(tmp_path: Path) -> None:
    ran: list[str] = []

    def visit(content: str) -> None:
        store = Store(tmp_path)

        def write(name: str, text: str) -> Made:
            ran.append(name)
            write_text(store.path(name), text)
            return Made((name,), {})

        store.stage("a", {}, lambda: write("a", content))
        inputs = {"a": store.output_hash("a", "a")}
        store.stage("b", inputs, lambda: write("b", (tmp_path / "a").read_text() * 2))
        store.stage("c", {"b": store.output_hash("b", "b")}, lambda: write("c", "c"))

    visit("x")
    visit("x")
    assert ran == ["a", "b", "c"]
    (tmp_path / "a").unlink()
    visit("y")
    assert ran == ["a", "b", "c"] * 2
    assert (tmp_path / "b").read_text() == "yy"


def test_a_second_run_of_a_stage_may_be_killed_too(
    finished: tuple[Plain, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, out = finished
    shutil.rmtree(out / "rounds/001/policy")
    with monkeypatch.context() as patch:
        crashes = Crashes(patch, out)
        crashes.survive(lambda: go(plain, out))
    assert any("fit.jsonl" in place for place in crashes.places)
    assert (out / "rounds/001/policy/config.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        "rounds/000/samples.parquet",
        "rounds/001/policy/model.safetensors",
        "evaluation/summary.json",
    ],
)
@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_an_altered_or_truncated_file_is_refused(
    name: str, keep: float, finished: tuple[Plain, Path], worked: list[str]
) -> None:
    plain, out = finished
    path = out / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content[: int(keep * len(content))])
    shown = name.removesuffix("/model.safetensors")
    with pytest.raises(ValueError, match=rf"{shown} was altered or cut short .*delete it") as caught:
        go(plain, out)
    assert str(out) in str(caught.value)
    assert worked == []


def test_a_damaged_manifest_is_named(finished: tuple[Plain, Path]) -> None:
    plain, out = finished
    (out / "manifest.json").write_text('{"data": ')
    with pytest.raises(ValueError, match=r"manifest\.json"):
        go(plain, out)


@pytest.mark.parametrize(
    "place",
    first(
        2,
        [
            "replace rounds/001/anchors.partial/0",
            "fit.partial step 3",
            "replace rounds/001/samples.partial/0",
            "replace rounds/001/verdicts.partial/0",
            "replace data/train.partial/0",
        ],
    ),
)
def test_damaged_half_done_work_is_made_again(
    place: str,
    tiny_recipe: Plain,
    tmp_path: Path,
    undisturbed: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One flipped bit went into the weights without a word."""
    expected, out = undisturbed("inpo"), tmp_path / "run"
    plain = plain_of(tiny_recipe, "inpo")
    with monkeypatch.context() as patch:
        Crashes(patch, out, place)
        with pytest.raises(Killed):
            go(plain, out)
    damaged = [path for path in out.rglob("*") if path.is_file() and any("partial" in p.name for p in path.parents)]
    damaged = [path for path in damaged if path.name != "steps.jsonl"]  # what pages show of a fit that goes on
    assert damaged
    for path in damaged:
        content = bytearray(path.read_bytes())
        content[int(0.4 * len(content))] ^= 1
        path.write_bytes(content)
    run(parse_recipe(plain), out, Progress())
    said = " ".join(capsys.readouterr().out.split())
    assert all(str(path.name.split("-")[0]) in said for path in damaged)
    assert "starts over" in said or "it is made again" in said
    same(trace(out), expected)
    assert partials(out) == []


def test_a_torn_line_of_the_verdict_cache_is_asked_again(
    finished: tuple[Plain, Path], undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    plain, out = finished
    cache = out / "cache/verdicts.jsonl"
    cache.write_bytes(cache.read_bytes()[:-15])
    (out / "rounds/000/verdicts.parquet").unlink()
    (out / "evaluation/summary.json").unlink()
    go(plain, out)
    same(trace(out), undisturbed("inpo"))


# ---- whose run it is ------------------------------------------------------------------------------


def test_a_run_of_another_recipe_is_refused_with_the_difference(
    finished: tuple[Plain, Path], worked: list[str]
) -> None:
    plain, out = finished
    before = (out / "recipe.yaml").read_bytes()
    other = {**plain, "seed": 7, "fit": {**plain["fit"], "learning_rate": 0.5}}
    with pytest.raises(ValueError, match="another recipe") as caught:
        go(other, out)
    lines = str(caught.value).splitlines()
    assert lines[1:-1] == ["  seed: 0 -> 7"]
    assert "--out" in lines[-1]
    assert (out / "recipe.yaml").read_bytes() == before
    with pytest.raises(ValueError, match=r"recipe:\n  rounds: 2 -> 1\nGive .*only rounds may grow"):
        go({**plain, "rounds": 1}, out)
    assert worked == []


def test_a_mistake_found_before_the_first_stage_can_be_mended(tiny_recipe: Plain, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wrong = {**tiny_recipe, "oracle": {"name": "function", "path": "oracle_fakes:more_vowel"}}
    with pytest.raises(ValueError, match=r"oracle\.path"):
        go(wrong, out)
    assert go({**tiny_recipe, "rounds": 1}, out)["headline"]


def test_rounds_may_grow(
    tiny_recipe: Plain,
    tmp_path: Path,
    undisturbed: Callable[[str], dict[str, Any]],
    worked: list[str],
) -> None:
    plain, out = plain_of(tiny_recipe, "inpo"), tmp_path / "run"
    go({**plain, "rounds": 1}, out)
    worked.clear()
    go(plain, out)
    assert not [key for key in worked if key.startswith("rounds/000")]
    found, expected = trace(out), undisturbed("inpo")
    assert found["weights"] == expected["weights"]
    assert found["tables"] == expected["tables"]


def test_two_processes_never_work_on_one_run(tiny_recipe: Plain, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Store(out).locked(), pytest.raises(ValueError, match=r"another process.*--out"):
        go(tiny_recipe, out)
    assert sorted(path.name for path in out.iterdir()) == ["run.lock"]


# ---- iterates that go -----------------------------------------------------------------------------


def test_keep_iterates_prunes_and_a_half_deleted_policy_is_no_alarm(
    tiny_recipe: Plain, tmp_path: Path, worked: list[str]
) -> None:
    plain, out = plain_of(tiny_recipe, "pruned"), tmp_path / "run"
    summary = go(plain, out)
    assert [p.parent.name for p in sorted(out.glob("rounds/*/policy"))] == ["002"]
    assert [row["round"] for row in summary["policies"]] == [0, 3]
    left = out / "rounds/000/policy"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    worked.clear()
    go(plain, out)
    assert worked == []
    assert not left.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps the highest since the process began")
def test_a_stage_records_its_own_peak_of_memory(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def hold(name: str, size: int) -> Made:
        held = b"x" * size
        write_text(store.path(name), str(len(held)))
        return Made((name,), {})

    release_memory()  # what earlier tests freed must not be returned in the middle
    for name, size in {"large": 400_000_000, "small": 10}.items():
        store.stage(name, {}, lambda name=name, size=size: hold(name, size))
    large, small = (store.manifest[name]["peak_bytes"] for name in ("large", "small"))
    assert 0.85 < (large - small) / 400e6 < 1.2


def test_a_judge_that_changed_between_rounds_is_refused(
    tiny_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited function judged the later rounds of a run that its first version had begun."""
    go({**tiny_recipe, "rounds": 1}, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    monkeypatch.setattr("sparring.oracles.function.code_identity", lambda _: "edited")
    for changes in ({"rounds": 2}, {"rounds": 1, "evaluation": {**tiny_recipe["evaluation"], "prompts": 2}}):
        with pytest.raises(ValueError, match=r"oracle: rounds/000 was judged by function.*and this is function"):
            go({**tiny_recipe, **changes}, tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_run_of_an_earlier_version_goes_on_with_its_judge(
    finished: tuple[Plain, Path], undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    """Its manifest and its verdicts name the function by the source of its module."""
    plain, out = finished
    oracle = FunctionOracle("oracle_fakes:more_vowels")
    former = oracle.former_identity
    assert former is not None
    manifest = json.loads((out / "manifest.json").read_text())
    for key in ("rounds/000/judge", "rounds/001/judge"):
        manifest[key]["facts"]["oracle"] = former
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / "rounds/001/verdicts.parquet").unlink()
    go(plain, out)
    after = json.loads((out / "manifest.json").read_text())
    assert after["rounds/000/judge"]["facts"]["oracle"] == former
    assert after["rounds/001/judge"]["facts"]["oracle"] == oracle.identity
    found, expected = trace(out), undisturbed("inpo")
    same({**found, "facts": None}, {**expected, "facts": None})


# ---- a policy is more than its weights ----------------------------------------------------------------


def altered(path: Path) -> None:
    """One thing of a file changed, which stays readable."""
    text = path.read_text()
    changed = {"config.json": ('"rms_norm_eps": 1e-06', '"rms_norm_eps": 0.05'), "tokenizer.json": ('"a"', '"QQ"')}
    changed |= {"generation_config.json": ("256", "255"), "chat_template.jinja": ("<|end|>", "<|user|>")}
    changed |= {"adapter_config.json": ('"use_rslora": false', '"use_rslora": true')}
    old, new = changed[path.name]
    assert old in text
    path.write_text(text.replace(old, new))


def without_files(out: Path) -> None:
    """The run as earlier versions left it: with hashes of weights only."""
    for name in ("manifest.json", "lock.json"):
        content = json.loads((out / name).read_text())
        for entry in [content, *content.values()]:
            if isinstance(entry, dict):
                entry.pop("files", None)
        (out / name).write_text(json.dumps(content))


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    "name", first(2, ["config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja"])
)
@pytest.mark.parametrize("change", [altered, Path.unlink])
def test_a_policy_whose_files_changed_is_refused(
    change: Callable[[Path], None], name: str, recorded: bool, finished: tuple[Plain, Path], worked: list[str]
) -> None:
    """It was sampled, measured and trained from; and a run without them was finished."""
    plain, out = finished
    if not recorded:
        without_files(out)
    change(out / "rounds/001/policy" / name)
    with pytest.raises(ValueError, match=rf"rounds/001/policy/{name}.* (altered|missing).*since stage rounds/001/fit"):
        go({**plain, "rounds": 3}, out)
    assert worked == []


def test_a_run_of_hashes_of_weights_alone_resumes_and_records_the_files(
    finished: tuple[Plain, Path], worked: list[str], undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    plain, out = finished
    manifest = json.loads((out / "manifest.json").read_text())
    without_files(out)
    go(plain, out)
    assert worked == []
    assert json.loads((out / "manifest.json").read_text()) == manifest
    (out / "rounds/001/policy/vocab.json").write_text("{}")
    with pytest.raises(ValueError, match=r"rounds/001/policy/vocab\.json was added since stage"):
        go(plain, out)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_start_model_that_changed_is_refused(name: str, tiny_recipe: Plain, tiny_model: Path, tmp_path: Path) -> None:
    """Another configuration was sampled from, and other weights made a finished run train anew."""
    start, out = tmp_path / "start", tmp_path / "run"
    shutil.copytree(tiny_model, start)
    plain = {**tiny_recipe, "model": {"path": str(start)}, "rounds": 1}
    go(plain, out)
    if name == "config.json":
        altered(start / name)
    else:
        tiny_llama(seed=5).save_pretrained(start)
    with pytest.raises(ValueError, match=r"model: .*start.* altered.* since this run began"):
        go({**plain, "rounds": 2}, out)


@pytest.mark.parametrize("field", ["train", "held_out", "chat_template"])
def test_data_that_changed_are_refused_before_anything_is_written(
    field: str, tiny_recipe: Plain, tmp_path: Path, worked: list[str]
) -> None:
    """A row appended to the data of a finished run trained it anew, over its policies, without a word."""
    out, short = tmp_path / "run", {**tiny_recipe["evaluation"], "every_iterate": False, "samples": 1}
    plain = {**tiny_recipe, "rounds": 1, "evaluation": short}
    if field == "chat_template":
        changes = tmp_path / "template.jinja"
        changes.write_text(TEMPLATE)
        plain["model"] = {**plain["model"], "chat_template": str(changes)}
    else:
        changes = Path(plain["data"][field]["path"])
    go(plain, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    content = changes.read_text()
    changes.write_text("{# new #}" + content if field == "chat_template" else content + '{"prompt": "Say owl"}\n')
    worked.clear()
    named = {"chat_template": r"model\.chat_template", "train": r"data\.train", "held_out": r"data\.held_out"}[field]
    message = rf"^{named} \('.*{changes.name}'\) changed since .*Restore what was there, or give another --out"
    for other in ({}, {"rounds": 2}, {"evaluation": {**short, "prompts": 2}}):
        with pytest.raises(ValueError, match=message) as caught:
            go({**plain, **other}, out)
        assert ("head-to-head" in str(caught.value)) == (field == "held_out")
    assert worked == []
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    changes.write_text(content)
    go(plain, out)
    assert worked == []


def test_data_may_change_while_nothing_is_made_of_them(
    tiny_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worked: list[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sparring.rounds.run.write_lock", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            go(tiny_recipe, tmp_path / "run")
    assert worked == ["data"]
    train = Path(tiny_recipe["data"]["train"]["path"])
    train.write_text(train.read_text() + '{"prompt": "Say owl"}\n')
    assert len(go({**tiny_recipe, "rounds": 1}, tmp_path / "run")["rounds"]) == 1
    assert len(read_table(tmp_path / "run/data/train.parquet")) == 7


@pytest.mark.parametrize("recorded", [True, False])
def test_an_adapter_whose_configuration_changed_is_refused(recorded: bool, tiny_recipe: Plain, tmp_path: Path) -> None:
    plain, out = {**plain_of(tiny_recipe, "lora"), "rounds": 1}, tmp_path / "run"
    go(plain, out)
    if not recorded:
        without_files(out)
    go(plain, out)
    if not recorded:
        without_files(out)
    altered(out / "rounds/000/policy/adapter_config.json")
    with pytest.raises(ValueError, match=r"rounds/000/policy/adapter_config\.json.*altered"):
        go({**plain, "rounds": 2}, out)


def test_a_verdict_that_was_altered_is_asked_again(
    finished: tuple[Plain, Path], undisturbed: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """P = 7.5 was trained on, and summaries said NaN."""
    plain, out = finished
    cache = out / "cache/verdicts.jsonl"
    lines = [json.loads(line) for line in cache.read_text().splitlines()]
    for index, row in enumerate(lines):
        row["preference"] += 7 * (index % 2)
        if index % 2:
            del row["check"]  # as earlier versions wrote it
        elif index % 4:
            row["preference"] = 1 - row["preference"] / 2
    cache.write_text("".join(json.dumps(row) + "\n" for row in lines))
    (out / "rounds/001/verdicts.parquet").unlink()
    (out / "evaluation/summary.json").unlink()
    run(parse_recipe(plain), out, Progress())
    same(trace(out), undisturbed("inpo"))
    assert "lines are damaged and are not used (line 2 first)" in " ".join(capsys.readouterr().out.split())


def test_a_recipe_may_change_while_only_the_data_are_prepared(tiny_recipe: Plain, tmp_path: Path) -> None:
    """The remedy of a check after the data stage was refused as another recipe."""
    out = tmp_path / "run"
    with Store(out).locked() as store:
        quiet = Progress(quiet=True)
        take_recipe(store, recipe := parse_recipe(tiny_recipe), check_resumable(store, recipe), quiet)
        store.stage("data", {}, lambda: Made((), {}))
        other = parse_recipe({**tiny_recipe, "sampling": {**tiny_recipe["sampling"], "max_new_tokens": 5}})
        take_recipe(store, other, check_resumable(store, other), quiet)
        assert store.manifest == {}
    assert yaml.safe_load((out / "recipe.yaml").read_text())["sampling"]["max_new_tokens"] == 5


def test_links_lead_to_the_policies_and_final_to_the_last(finished: tuple[Plain, Path]) -> None:
    plain, out = finished
    for name in ("final", "policy-1"):  # the fixture's copy holds folders in their place
        shutil.rmtree(out / name)
    go(plain, out)
    assert (out / "final").readlink() == Path("rounds/001/policy")
    assert (out / "policy-1").samefile(out / "rounds/000/policy")


def test_a_lock_that_a_killed_command_left_does_not_make_a_folder_somebody_s(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.result.json.lock").touch()
    with Store(tmp_path / "run").locked():
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    with pytest.raises(ValueError, match="holds files and is not a run folder"), Store(tmp_path / "other").locked():
        pass
