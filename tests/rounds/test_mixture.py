"""Several training sets in one recipe: shares, counts, the same draw by the same seed, and resuming."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import write_jsonl
from crash_fakes import Crashes
from sparring.planning.lengths import read_lengths
from sparring.recipe.datasets import MixtureConfig
from sparring.recipe.reading import load_recipe, parse_recipe
from sparring.report.html import render
from sparring.rounds.run import run
from sparring.rounds.status import read_status
from sparring.runtime.files import read_table
from sparring.runtime.layout import COLLECTED, TRAIN
from sparring.runtime.progress import Progress

Plain = dict[str, Any]
SETS = {"path": "a.jsonl"}, {"path": "b.jsonl"}


def mixture(**fields: Any) -> MixtureConfig:
    return MixtureConfig.model_validate({"sets": dict(zip("ab", SETS, strict=True)), **fields})


@pytest.fixture
def mixed(tiny_recipe: Plain, tmp_path: Path) -> Plain:
    """Twelve pairs of animals and four of plants, of which one is an animal's too, three to one."""
    pair = {"chosen": "yes!", "rejected": "no", "margin": 1.5}
    animals = [{"prompt": f"animal {i}", **pair} for i in range(12)]
    plants = [{"prompt": f"plant {i}", **pair} for i in range(4)]
    sets = {
        "animals": {"path": str(write_jsonl(tmp_path / "animals.jsonl", animals))},
        "plants": {"path": str(write_jsonl(tmp_path / "plants.jsonl", [*plants, animals[3]]))},
    }
    train = {"sets": sets, "weights": {"animals": 0.6, "plants": 0.4}}
    algorithm = {"name": "dpo", "soft_labels": True}
    evaluation = {"every_iterate": False, "samples": 1, "bootstrap": 100}
    data = {**tiny_recipe["data"], "train": train}
    return {**tiny_recipe, "data": data, "algorithm": algorithm, "rounds": 1, "evaluation": evaluation}


def go(plain: Plain, out: Path) -> Any:
    return run(parse_recipe(plain), out, Progress(quiet=True))


def trained(out: Path) -> list[tuple[str, str]]:
    return [(row["set"], row["prompt"]) for row in read_table(out / TRAIN)]


def test_each_set_gives_its_share_and_is_counted(mixed: Plain, tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = go(mixed, out)
    rows = trained(out)
    assert Counter(name for name, _ in rows) == {"animals": 6, "plants": 4}
    assert len(set(rows)) == 10
    assert {prompt.split()[0] for name, prompt in rows if name == "plants"} == {"plant"}
    facts = json.loads((out / "manifest.json").read_text())["data"]["facts"]
    assert facts["train_sets"] == {"animals": 6, "plants": 4}
    assert facts["dropped"]["train.animals"] == {"beyond its share": 6}
    assert facts["dropped"]["train.plants"] == {"duplicate": 1}
    assert "10 training examples, 3 held out (training: animals 6, plants 4)" in read_status(out).stages[0].numbers
    assert "train data, animals" in (page := render(summary))
    assert "animals <b>6</b> (60" in page
    (row, *_) = read_table(out / "rounds/000/pairs.parquet")
    assert row["pairs"][0]["preference"] == pytest.approx(0.8175744761936437)
    assert load_recipe(out / "recipe.yaml").data == parse_recipe(mixed).data
    again = tmp_path / "again"
    go({**mixed, "seed": 1}, again)
    assert Counter(name for name, _ in trained(again)) == {"animals": 6, "plants": 4}
    assert trained(again) != rows


def test_a_killed_run_ends_with_the_same_draw(mixed: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(mixed, tmp_path / "whole")
    out = tmp_path / "run"
    Crashes(monkeypatch, out, "data").survive(lambda: go(mixed, out))
    assert (out / TRAIN).read_bytes() == (tmp_path / "whole" / TRAIN).read_bytes()
    assert not list(out.rglob("*partial*"))


def test_a_set_that_changed_is_refused_by_name(mixed: Plain, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(mixed, out)
    with (tmp_path / "plants.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "moss", "chosen": "yes!", "rejected": "no", "margin": 1}) + "\n")
    with pytest.raises(ValueError, match=r"data\.train\.sets\.plants \('.*plants.jsonl'\) changed since"):
        go(mixed, out)


def test_without_weights_all_rows_are_used(mixed: Plain, tmp_path: Path) -> None:
    mixed["data"]["train"] = {"sets": mixed["data"]["train"]["sets"]}
    go(mixed, tmp_path / "run")
    assert Counter(name for name, _ in trained(tmp_path / "run")) == {"animals": 12, "plants": 4}


def test_pairs_that_are_collected_of_a_mixture_keep_set_and_probability(mixed: Plain, tmp_path: Path) -> None:
    mixed["data"]["collect"] = {"samples": 3}
    go(mixed, tmp_path / "run")
    rows = read_table(tmp_path / "run" / COLLECTED)
    assert {row["set"] for row in rows} <= {"animals", "plants"}
    assert all(0.5 <= row["preference"] <= 1 for row in rows)


def test_a_plan_counts_the_mixture(mixed: Plain) -> None:
    assert read_lengths(parse_recipe(mixed)).train == 10


@pytest.mark.parametrize(
    ("weights", "examples", "usable", "counts"),
    [
        ((0.8, 0.2), None, (100, 50), (100, 25)),
        ((0.1, 0.9), None, (100, 90), (10, 90)),
        ((0.1, 0.9), 10, (100, 90), (1, 9)),
        ((1 / 3, 2 / 3), 10, (100, 90), (3, 7)),
        ((0.5, 0.5), 7, (3, 90), (3, 4)),
    ],
)
def test_shares_become_counts(
    weights: tuple[float, float], examples: int | None, usable: tuple[int, int], counts: tuple[int, int]
) -> None:
    by_name, held = dict(zip("ab", weights, strict=True)), dict(zip("ab", usable, strict=True))
    quotas = mixture(weights=by_name, examples=examples).quotas(held)
    assert tuple(quotas.items()) == tuple(zip("ab", counts, strict=True))
    turned = mixture(weights=dict(reversed(by_name.items())), examples=examples).quotas(held)
    assert tuple(turned) == ("a", "b")  # the sets' order, whatever that of the weights


def test_more_than_a_set_has_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"examples = 100: the share 0\.5 of 'b' is 50 examples, and it has 30 .* most 60"
    ):
        mixture(weights={"a": 0.5, "b": 0.5}, examples=100).quotas({"a": 90, "b": 30})
    with pytest.raises(ValueError, match=r"the share 0\.01 of 'b' is no example of 10"):
        mixture(weights={"a": 0.99, "b": 0.01}, examples=10).quotas({"a": 90, "b": 30})
    with pytest.raises(
        ValueError, match=r"examples = 10: by these weights the sets have 9 usable ones. Give at most 8"
    ):
        mixture(weights={"a": 0.25, "b": 0.75}, examples=10).quotas({"a": 2, "b": 7})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"animals": 0.6, "plants": 0.3}}, "weights: they sum to 0.9, but shares must sum to 1"),
        ({"weights": {"animals": 1.6, "plants": -0.6}}, "weights.plants = -0.6: input should be greater than 0"),
        ({"weights": {"animals": 0.6, "plant": 0.4}}, "weights: 'plant' is no set; the sets are animals, plants"),
        ({"weights": {"animals": 1.0}}, "weights: none for 'plants'. Give every set a share above 0"),
        ({"weights": None, "examples": 5}, "examples = 5 without weights"),
        ({"sets": {"animals": {"path": "a"}}}, "sets: a mixture needs at least two"),
        ({"sets": {"animals": {"path": "a"}, "a/b": {"path": "a"}}}, "sets: 'a/b' is no name"),
        (
            {"sets": {"animals": {"path": "a"}, "plants": {"pth": "a"}}},
            "sets.plants.pth: unknown key. Did you mean 'path'",
        ),
        ({"wieghts": {}}, "train.wieghts: unknown key. Did you mean 'weights'?"),
    ],
)
def test_bad_mixtures_are_refused(change: Plain, message: str, mixed: Plain) -> None:
    mixed["data"]["train"] |= change
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_recipe(mixed)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"threshold": 3}, "threshold = 3 with algorithm 'dpo': only kto uses it"),
        ({"margin_scale": 2}, "margin_scale = 2 is used by algorithm.soft_labels: true with source: pairs"),
    ],
)
def test_fields_that_the_method_does_not_use_are_refused(train: Plain, message: str, tiny_recipe: Plain) -> None:
    data = {**tiny_recipe["data"], "train": {**tiny_recipe["data"]["train"], **train}}
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_recipe({**tiny_recipe, "data": data, "algorithm": {"name": "dpo"}})


def test_a_set_that_an_earlier_one_holds_is_named(mixed: Plain, tmp_path: Path) -> None:
    sets = mixed["data"]["train"]["sets"]
    sets["plants"] = next(iter(sets.values()))
    with pytest.raises(ValueError, match=r"^data\.train\.sets\.plants: .*holds no usable example: \d+ x duplicate"):
        go(mixed, tmp_path / "refused")


def test_sets_without_the_columns_are_named(mixed: Plain, tmp_path: Path) -> None:
    unpaired = [{"prompt": "a", "completion": "b", "label": True}]
    path = write_jsonl(tmp_path / "unpaired.jsonl", unpaired)
    mixed["data"]["train"]["sets"]["plants"] = {"path": str(path)}
    with pytest.raises(ValueError, match=r"^data\.train\.sets\.plants: .*These rows are unpaired .* which kto takes"):
        go(mixed, tmp_path / "refused")
