"""A killed run goes on where it was: the same weights, the same samples, nothing lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from crash_fakes import Crashes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.progress import Progress
from sparring.recipe import parse_recipe
from sparring.rounds import run as run_module
from sparring.rounds import store as store_module
from sparring.rounds.run import run
from sparring.rounds.store import Made, Store, read_table
from sparring.weights import hash_weights

SPIN = {"name": "spin", "window": 2, "samples": 2}
COLLECT = {"samples": 2, "pairing": "best_worst"}
VARIANTS: dict[str, dict[str, Any]] = {
    "inpo": {},
    "spin": {"algorithm": SPIN, "rounds": 3},
    "spac": {"algorithm": {"name": "spac"}, "data.collect": COLLECT},
    "lora": {"model.lora": {"rank": 2, "dropout": 0.1}},
}
Plain = dict[str, Any]
Go = Callable[..., dict[str, Any]]


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
        "facts": {
            key: {k: v for k, v in entry["facts"].items()}
            for key, entry in json.loads((out / "manifest.json").read_text()).items()
        },
    }


UNDISTURBED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}


@pytest.fixture
def undisturbed(
    tiny_recipe: Plain, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """The trace of an undisturbed run of a variant, made once."""

    def get(variant: str) -> dict[str, Any]:
        if variant not in UNDISTURBED:
            out = tmp_path_factory.mktemp("undisturbed") / variant
            UNDISTURBED[variant] = (go(plain_of(tiny_recipe, variant), out), trace(out))
        return UNDISTURBED[variant][1]

    return get


def partials(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if "partial" in path.name]


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key in expected:
        assert found[key] == expected[key], key


# ---- kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
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
        crashes = Crashes(patch, out)
        crashes.survive(lambda: go(plain_of(tiny_recipe, variant), out))
    same(trace(out), expected)
    assert partials(out) == []
    assert len(crashes.places) > 50
    places = "\n".join(crashes.places)
    for count in range(1, len(json.loads((out / "manifest.json").read_text())) + 1):
        assert f"replace .manifest.json.partial of {count} stages" in places
    for inside in (
        "samples.partial",
        "anchors.partial",
        "fit.partial step 3",
        "rename rounds/001/policy.partial",
        "replace evaluation/.summary.json.partial",
    ):
        assert inside in places
