"""Many small rounds: models that stay in memory, moments that go on, policies that go; and the same bytes."""

from __future__ import annotations

import gc
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import tiny_llama
from crash_fakes import Crashes
from sparring.contests.players import PolicyPlayer
from sparring.recipe.reading import parse_recipe
from sparring.rounds import policies as policies_module
from sparring.rounds.export import find_source
from sparring.rounds.policies import Policies
from sparring.rounds.run import run
from sparring.rounds.status import read_status
from sparring.rounds.store import Store
from sparring.rounds.warm import Warm, put_weights
from sparring.runtime.files import read_json
from sparring.runtime.memory import older_objects_stay
from sparring.runtime.progress import Progress

Plain = dict[str, Any]
TIMES = {"seconds", "peak_bytes", "finished"}


def online(recipe: Plain, **changes: Any) -> Plain:
    """Four rounds of two steps, of which the second policy and the last stay."""
    fit = {**recipe["fit"], "keep_optimizer": True, "schedule": "constant", "checkpoint_minutes": 0}
    data = {**recipe["data"], "prompts_per_round": 3}
    evaluation = {"every_iterate": False, "samples": 1}
    small = {**recipe, "data": data, "fit": {**fit, "batch_size": 2}, "evaluation": evaluation, "rounds": 4}
    return {**small, "keep_iterates": 0, "keep_every": 2, **changes}


def go(plain: Plain, out: Path) -> None:
    run(parse_recipe(plain), out, Progress(quiet=True))


def contents(out: Path) -> dict[str, Any]:
    """Every byte of a run but its times, its recipe and what pages are made of."""
    names = {"manifest.json", "lock.json", "progress.json", "usage.jsonl", "run.lock", "recipe.yaml", "report.html"}
    files = {path for path in out.rglob("*") if path.is_file() and path.name not in names | {"fit.jsonl"}}
    manifest = read_json(out / "manifest.json")
    logs = {
        str(path.relative_to(out)): [
            {name: value for name, value in json.loads(line).items() if "second" not in name}
            for line in path.read_text().splitlines()
        ]
        for path in out.rglob("fit.jsonl")
    }
    found: dict[str, Any] = {str(path.relative_to(out)): path.read_bytes() for path in files if not path.is_symlink()}
    found |= {f"{key} {name}": value for key, entry in manifest.items() for name, value in entry.items()} | logs
    fits = [key for key in manifest if key.endswith("/fit")]
    for key in fits:  # the log has times in it
        found[f"{key} outputs"] = {n: h for n, h in manifest[key]["outputs"].items() if not n.endswith("fit.jsonl")}
    summary = "evaluation/summary"
    drop = {f"{key} {name}" for key in manifest for name in TIMES} | {f"{summary} outputs", f"{summary}.json"}
    return {name: value for name, value in found.items() if name not in drop}


def test_warm_models_give_the_bytes_of_cold_ones(
    tiny_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: dict[bool, int] = {}
    load = policies_module.load_model
    for warm in (False, True):

        def counting(*args: Any, warm: bool = warm, **options: Any) -> Any:
            loads[warm] = loads.get(warm, 0) + 1
            return load(*args, **options)

        monkeypatch.setattr(policies_module, "load_model", counting)
        sampling = {**tiny_recipe["sampling"], "precision": "bfloat16"}
        go(online(tiny_recipe, warm=warm, sampling=sampling), tmp_path / str(warm))
    cold, kept = contents(tmp_path / "False"), contents(tmp_path / "True")
    assert cold.keys() == kept.keys()
    assert [name for name in cold if cold[name] != kept[name]] == []
    assert len([name for name in cold if name.endswith("samples.parquet")]) == 4
    assert loads[True] == 3  # one to sample with, one to train, and the reference
    assert loads[False] > 12


def test_a_mixture_of_warm_models_is_of_as_many(tiny_recipe: Plain, tmp_path: Path) -> None:
    algorithm = {"name": "nash_md", "samples": 2}
    for warm in (False, True):
        go(online(tiny_recipe, warm=warm, rounds=2, algorithm=algorithm, keep_every=None), tmp_path / str(warm))
    cold, kept = contents(tmp_path / "False"), contents(tmp_path / "True")
    assert [name for name in cold if cold[name] != kept[name]] == []


def test_a_run_with_carried_moments_killed_after_every_change_of_the_disk_ends_the_same(
    tiny_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = online(tiny_recipe, rounds=3, warm=True)
    go(plain, tmp_path / "undisturbed")
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        crashes = Crashes(patch, out, "optimizer|moments|rmtree")
        crashes.survive(lambda: go(plain, out))
    assert any("unlink" in place and "moments" in place for place in crashes.places)
    expected, found = contents(tmp_path / "undisturbed"), contents(out)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []


def test_what_stays_on_disk(tiny_recipe: Plain, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(online(tiny_recipe, rounds=5), out)
    assert [path.parent.name for path in sorted(out.glob("rounds/*/policy"))] == ["001", "003", "004"]
    assert [path.parent.parent.name for path in sorted(out.glob("rounds/*/optimizer/*"))] == ["004"]
    assert sorted(path.name for path in out.glob("policy-*")) == ["policy-2", "policy-4", "policy-5"]
    assert read_status(out).kept == [2, 4, 5]
    gone = r"run: policy 3 was not kept \(keep_iterates, keep_every\)\. On disk, beside the start: 2, 4, 5\."
    with pytest.raises(ValueError, match=gone):
        PolicyPlayer(f"{out}:3", tmp_path)
    with pytest.raises(ValueError, match="has no policy after 3 rounds: it has those after 2, 4, 5 rounds"):
        find_source(out, 3)


def test_a_run_that_goes_on_may_keep_fewer_policies(tiny_recipe: Plain, tmp_path: Path) -> None:
    """A full disk: the remedy was refused as another recipe."""
    out = tmp_path / "run"
    go(online(tiny_recipe, keep_iterates="all", keep_every=None, rounds=2), out)
    weights = (out / "rounds/001/policy/model.safetensors").read_bytes()
    go(online(tiny_recipe, keep_iterates=0, keep_every=None, rounds=2), out)
    assert [path.parent.name for path in sorted(out.glob("rounds/*/policy"))] == ["001"]
    assert (out / "rounds/001/policy/model.safetensors").read_bytes() == weights


def test_a_last_policy_that_was_deleted_is_fitted_again_with_the_same_bytes(tiny_recipe: Plain, tmp_path: Path) -> None:
    plain, out = online(tiny_recipe, keep_iterates=1), tmp_path / "run"
    go(plain, out)
    policy = out / "rounds/003/policy"
    before = (policy / "model.safetensors").read_bytes()
    shutil.rmtree(policy)
    go(plain, out)
    assert (policy / "model.safetensors").read_bytes() == before


def test_moments_that_are_gone_are_named(tiny_recipe: Plain, tmp_path: Path) -> None:
    plain, out = online(tiny_recipe, keep_iterates=3, keep_every=None), tmp_path / "run"
    go(plain, out)
    shutil.rmtree(out / "rounds/002/policy")
    with pytest.raises(
        ValueError, match=r"fit\.keep_optimizer: .*moments\.safetensors is not on disk any more, so round"
    ):
        go(plain, out)


def test_moments_change_the_second_round_and_not_the_first(tiny_recipe: Plain, tmp_path: Path) -> None:
    kept = online(tiny_recipe, rounds=2, keep_iterates="all", keep_every=None)
    go(kept, tmp_path / "kept")
    go({**kept, "fit": {**kept["fit"], "keep_optimizer": False}}, tmp_path / "fresh")
    same = [
        (tmp_path / "kept" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
        for name in ("rounds/000/policy/model.safetensors", "rounds/001/policy/model.safetensors")
    ]
    assert same == [True, False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keep_iterates": "all"}, "keep_every = 2 with keep_iterates = 'all'"),
        (
            {"algorithm": {"name": "egpo", "step_size": 1.0, "kl_to_reference": 0.1, "samples": 2}},
            r"keep_optimizer = true with algorithm 'egpo', whose fit in round 2 starts from policy 1 and not from",
        ),
        ({"fit": {"keep_optimizer": True, "optimizer": "adamw_8bit"}}, "keep_optimizer with optimizer: adamw_8bit"),
    ],
)
def test_what_cannot_be_kept_is_refused(tiny_recipe: Plain, changes: Plain, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_recipe({**online(tiny_recipe), **changes})


def test_many_steps_over_all_rounds_need_no_warning(tiny_recipe: Plain) -> None:
    recipe = parse_recipe(online(tiny_recipe, rounds=5))
    assert recipe.few_steps(6) == ""
    fresh = recipe.fit.model_copy(update={"keep_optimizer": False})
    assert "only 2 optimiser steps" in recipe.model_copy(update={"fit": fresh}).few_steps(6)


def test_a_judge_stays_unless_it_asks_somebody() -> None:
    warm, built = Warm(), list[str]()

    def build(section: Plain) -> Any:
        built.append(section["name"])
        return section

    jury = {"name": "jury", "members": [{"name": "rules", "data": "x.jsonl"}, {"name": "panel"}]}
    served = {"name": "both_orders", "oracle": {"name": "llm_judge", "model": "x"}}
    for section in (jury, jury, served, served, {"name": "local_judge", "replies": "file"}):
        warm.oracle(section, partial(build, section))
    assert built == ["jury", "both_orders", "both_orders", "local_judge"]


def test_a_release_looks_at_new_objects_only() -> None:
    """Every stage's release looked at a million objects of libraries, a fifth of a second each time."""
    with older_objects_stay():
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < 10_000
    assert gc.get_freeze_count() == 0


def test_this_process_keeps_the_tokenizer_of_its_policies(tiny_recipe: Plain, tmp_path: Path) -> None:
    """A copy for work that is done here dropped it, so that each stage read it again."""
    policies = Policies(Store(tmp_path), parse_recipe(tiny_recipe).model)
    chat = policies.chat
    assert policies.at({}).chat is chat
    assert policies.at({}, tmp_path).chat is chat
    assert policies.at({}, tmp_path / "worker").store.root == tmp_path / "worker"


# ---- weights put into a model -----------------------------------------------------------------------


def test_weights_are_put_into_a_model_in_its_precision(tmp_path: Path) -> None:
    other: Any = tiny_llama(seed=5)
    other.save_pretrained(tmp_path)
    living: Any = tiny_llama(seed=6)
    living.to(torch.bfloat16)
    assert put_weights(living, tmp_path)
    for name, value in other.to(torch.bfloat16).state_dict().items():
        assert torch.equal(living.state_dict()[name], value)


def test_weights_of_another_shape_are_loaded_anew(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    tiny_llama().save_pretrained(small)
    grown = tiny_llama()
    grown.resize_token_embeddings(300)
    grown.save_pretrained(large)
    warm = Warm()
    first = warm.model("use", "a", small, tiny_llama)
    assert not put_weights(first, large)
    assert warm.model("use", "a", small, tiny_llama) is first
    assert warm.model("use", "b", large, lambda: grown) is grown
