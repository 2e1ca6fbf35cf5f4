"""Several ranks do what one does: the same fit, the same run, resumed on another number of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, strategies
from safetensors.torch import load_file

import ranks
from ranks import on_ranks
from sparring.algorithms.algorithm import REFERENCE, Draw
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import FitConfig
from sparring.rounds.policies import Policies
from sparring.rounds.sample import DrawTask, make_draw
from sparring.rounds.store import Store
from sparring.runtime import devices
from sparring.runtime.files import read_table

SAME = {"rtol": 1e-4, "atol": 2e-6}
"""float32 sums in another order"""


def test_what_ranks_tell_each_other() -> None:
    first, second = on_ranks(2, ranks.numbers)
    assert (first["rank"], second["rank"]) == (0, 1)
    assert first["word"] == second["word"] == "task"
    assert (first["share"], second["share"]) == ([0, 2, 4], [1, 3])
    assert (first["deal"], second["deal"]) == ([0, 2], [1, 3, 4])
    assert first["broadcast"] == second["broadcast"] == 10
    assert first["gradient"] == second["gradient"] == [1.0, 2.0]
    assert first["noise"] != second["noise"]


@given(strategies.lists(strategies.integers(1, 100), max_size=30), strategies.integers(1, 5))
def test_a_deal_gives_everything_once_and_evenly(sizes: list[int], count: int) -> None:
    hands = []
    for rank in range(count):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(devices, "count", lambda: count)
            patch.setattr(devices, "rank", lambda rank=rank: rank)
            hands.append(devices.deal(sizes))
    assert sorted(index for hand in hands for index in hand) == list(range(len(sizes)))
    loads = [sum(sizes[index] for index in hand) for hand in hands]
    assert max(loads) - min(loads) <= max(sizes, default=0)


CHANGES: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-2, "max_grad_norm": 1.0}
"""the last batch has two examples: fewer than three ranks"""


def check_same(found: tuple[list[Any], Any], expected: tuple[list[Any], Any]) -> None:
    for name in ("loss", "grad_norm", "margin", "accuracy", "tokens", "learning_rate"):
        assert [row[name] for row in found[0]] == pytest.approx([row[name] for row in expected[0]], rel=1e-4), name
    assert found[0][-1]["logps"] == pytest.approx(expected[0][-1]["logps"], rel=1e-4)
    for name, weights in expected[1].items():
        np.testing.assert_allclose(found[1][name], weights, **SAME, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "count", "cut"),
    [("full", 2, False), ("full", 3, False), ("full", 3, True), ("lora", 2, False), ("lora", 2, True)],
)
def test_a_fit_is_the_same_on_any_number_of_ranks(kind: str, count: int, cut: bool, tmp_path: Path) -> None:
    changes = {**CHANGES, "gradient_checkpointing": count == 3, "micro_batch_tokens": 30}
    expected = ranks.fitted(kind, changes, tmp_path / "one")
    check_same(on_ranks(count, ranks.fitted, kind, {**changes, "shard_weights": cut}, tmp_path / "many"), expected)
    assert expected[0][-1]["loss"] < expected[0][0]["loss"]


def test_a_cut_fit_in_bfloat16_is_close(tmp_path: Path) -> None:
    changes = {**CHANGES, "precision": "bfloat16"}
    (expected, _), (found, _) = (
        on_ranks(2, ranks.fitted, "full", {**changes, "shard_weights": cut}, tmp_path / str(cut))
        for cut in (False, True)
    )
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in found] == pytest.approx([row[name] for row in expected], rel=0.05)
    assert found[-1]["logps"] == pytest.approx(expected[-1]["logps"], rel=0.05)


@pytest.mark.parametrize(("before", "after"), [("two", "one"), ("one", "two"), ("cut", "one"), ("two", "cut")])
def test_a_fit_resumes_on_another_number_of_ranks(before: str, after: str, tmp_path: Path) -> None:
    def fitted(how: str, folder: str, stop_after: int = 0) -> Any:
        changes = {**CHANGES, "checkpoint_minutes": 0.0, "shard_weights": how == "cut"}
        arguments = "full", changes, tmp_path / folder, stop_after
        return ranks.fitted(*arguments) if how == "one" else on_ranks(2, ranks.fitted, *arguments)

    assert fitted(before, "stopped", stop_after=2) == ([], {})
    assert (tmp_path / "stopped/checkpoint.pt").exists()
    check_same(fitted(after, "stopped"), fitted("one", "whole"))


def test_dropout_differs_by_rank_but_not_between_two_fits(tmp_path: Path) -> None:
    (_, first), (_, again) = (on_ranks(2, ranks.fitted, "noisy", CHANGES, tmp_path / name) for name in "ab")
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_every_rank_samples_other_requests(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe = parse_recipe(tiny_recipe)
    draw = Draw("own", 3, {REFERENCE: 1.0})
    examples = [{"example": str(i), "prompt_ids": [10 + i, 11, 12][: 1 + i % 3]} for i in range(9)]

    def task(folder: str) -> DrawTask:
        policies, target = Policies(Store(tmp_path / folder), recipe.model), tmp_path / folder / "samples.parquet"
        return DrawTask(policies, draw, examples, recipe.sampling, recipe.seed, "test", target)

    asked = on_ranks(2, ranks.sampled, task("two"))
    seeds = [{seed for _, seed in requests} for requests in asked]
    assert [len(part) for part in seeds] == [16, 11]
    assert not seeds[0] & seeds[1]
    make_draw(task("one"))
    shards = [{path.name: read_table(path) for path in tmp_path.glob(f"{which}/*/*")} for which in ("one", "two")]
    assert shards[0] == shards[1]
    assert len(shards[0]) == 4


@pytest.mark.parametrize("cut", [False, True])
def test_a_run_on_two_ranks_is_the_run_on_one(cut: bool, tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    tiny_recipe["rounds"] = 1
    one, two = tmp_path / "one", tmp_path / "two"
    expected = ranks.ran(tiny_recipe, one)
    tiny_recipe["fit"]["shard_weights"] = cut
    found = on_ranks(2, ranks.ran, tiny_recipe, two)
    for name in ("samples", "verdicts", "pairs", "anchors"):
        assert (one / f"rounds/000/{name}.parquet").read_bytes() == (two / f"rounds/000/{name}.parquet").read_bytes()
    assert found["policies"][1]["kl_to_start"] == pytest.approx(expected["policies"][1]["kl_to_start"], rel=1e-3)
    assert found["lock"]["hardware"]["devices"] == 2
    assert not list(two.rglob("*partial*"))
    weights = [load_file(out / "rounds/000/policy/model.safetensors") for out in (one, two)]
    torch.testing.assert_close(weights[1], weights[0], **SAME)


def test_one_device_cannot_cut(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    tiny_recipe["fit"]["shard_weights"] = True
    with pytest.raises(ValueError, match=r"fit\.shard_weights = true.*--devices 2"):
        ranks.ran(tiny_recipe, tmp_path / "run")


def test_eight_bit_states_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="shard_weights with optimizer: adamw_8bit"):
        FitConfig(shard_weights=True, optimizer="adamw_8bit")


def test_a_study_goes_on_after_a_fit_that_all_ranks_stopped(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """A tripwire ended the other ranks, and so the study."""
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**tiny_recipe, "rounds": 1}))
    trips = {"fit": {"learning_rate": 1.0, "tripwires": {"kl_to_iterate": 1e-9}}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"base": "base.yaml", "methods": {"hasty": trips, "inpo": {}}, "seeds": [0]}))
    found = on_ranks(2, ranks.studied, file, tmp_path / "out")
    assert [stopped["method"] for stopped in found["stopped"]] == ["hasty"]
    assert [method["name"] for method in found["methods"]] == ["inpo"]


def test_a_lost_rank_s_error_may_say_nothing():
    with pytest.raises(devices.RankLost, match=r"another rank is gone \(RuntimeError: \)"), devices._lost():
        raise RuntimeError
