"""Every shipped algorithm runs `sparring run` on the tiny model, and says what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparring.algorithms.algorithm import SHIPPED, DataFacts, PolicyRef, Reuse, build_algorithm, find_algorithm
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress

SMALL: dict[str, dict[str, Any]] = {
    "inpo": {"step_size": 2.0, "kl_to_reference": 0.1, "samples": 4},
    "comal": {"step_size": 2.0, "kl_to_reference": 0.1, "samples": 4, "period": 1},
    "mpo": {"step_size": 2.0, "kl_to_magnet": 0.1, "samples": 4, "period": 2},
    "mnpo": {"step_size": 2.0, "kl_to_reference": 0.1, "samples": 4},
    "onpo": {"step_size": 2.0, "samples": 4},
    "egpo": {"step_size": 2.0, "samples": 4, "pairing": "iid"},
    "nash_md": {"samples": 4, "pairing": "iid", "target": "soft"},
    "sppo": {"step_size": 5.0, "samples": 4},
    "rspo": {"step_size": 5.0, "samples": 4, "forward_kl": 0.1, "reference_nll": 0.1},
    "opo": {"samples": 4},
}
ALSO = [
    ("spin", {"alpha": 0.3, "sampler": "mixture"}),
    ("spin", {"alpha": 0.3, "window": "all"}),
    ("spac", {"form": "linear"}),
    ("dpo", {"source": "own"}),
    ("ipo", {"source": "own", "reference": "iterate", "soft_labels": True}),
    ("chi_po", {"source": "own"}),
    ("sppo", {"labels": "hard", "pairing": "knockout", "samples": 4, "step_size": 5.0}),
    ("opo", {"form": "approx", "samples": 4}),
    ("dpo", {"loss": "nca", "sft_weight": 0.1}),
    ("kto", {"reference_point": "zero", "reference": "iterate"}),
]


ONE_ROUND = {"simpo", "cpo", "orpo", "nash_prox", "spo", "dno", "rebel", "space"}
"""whose steps have the form of another's that runs two"""


@pytest.mark.parametrize(("name", "fields"), [(n, SMALL.get(n, {})) for n in SHIPPED] + ALSO)
def test_runs(name, fields, tiny_recipe, tmp_path):
    out, rounds = tmp_path / "run", 1 if name in ONE_ROUND else 2
    recipe = parse_recipe({**tiny_recipe, "algorithm": {"name": name, **fields}, "rounds": rounds})
    summary = run(recipe, out, Progress(quiet=True))
    assert len(summary["fit"]) == rounds
    assert all(row["loss"] == row["loss"] for rows in summary["fit"] for row in rows)
    assert (out / f"rounds/00{rounds - 1}/policy/model.safetensors").exists()
    assert (out / "report.html").stat().st_size > 10_000
    hashes = summary["lock"]["weights"]
    assert len({hashes[f"{t}/play"] for t in range(rounds + 1)}) == rounds + 1


@pytest.mark.parametrize("name", SHIPPED)
def test_steps_are_pure_and_end_with_the_policy(name):
    algorithm = build_algorithm({"name": name})
    for t in range(7):
        steps = algorithm.steps(t, DataFacts(100))
        assert steps == algorithm.steps(t, DataFacts(100))
        assert steps[-1].trains == "play"
        for index, step in enumerate(steps):
            assert not isinstance(step.responses, Reuse) or step.responses.step < index
            made = {PolicyRef(t + 1, s.trains) for s in steps[:index]}
            used = {step.start, *step.anchors.values(), *(p for d in step.draws() for p in d.policies)}
            assert all(ref.round <= t or ref in made for ref in used)
        weights = getattr(steps[-1].objective, "anchors", None)
        if weights is not None:
            assert sum(weights.values()) == pytest.approx(0.0 if algorithm.about.anchors == "none" else 1.0)


def test_every_algorithm_has_a_card():
    for name in SHIPPED:
        assert all(find_algorithm(name).about)


def test_reference_samples_reach_the_loss(tiny_recipe, tmp_path):
    """RSPO's extra draw is kept beside the pair, and only where it is asked for."""
    out = tmp_path / "run"
    fields = {"name": "rspo", "step_size": 5.0, "samples": 4, "reference_nll": 0.1, "reference_samples": 2}
    run(parse_recipe({**tiny_recipe, "algorithm": fields, "rounds": 1}), out, Progress(quiet=True))
    for row in read_table(out / "rounds/000/pairs.parquet"):
        assert [r["role"] for r in row["responses"]] == ["own", "own", "reference", "reference"]


def test_lists_keep_every_response(tiny_recipe, tmp_path):
    out: Path = tmp_path / "run"
    run(
        parse_recipe({**tiny_recipe, "algorithm": {"name": "opo", "samples": 4}, "rounds": 1}),
        out,
        Progress(quiet=True),
    )
    for row in read_table(out / "rounds/000/pairs.parquet"):
        assert len(row["responses"]) == 4
        assert row["pairs"] == []


def test_roles_of_a_step_are_its_own():
    step = build_algorithm({"name": "inpo"}).steps(0, DataFacts(1))[0]
    with pytest.raises(ValueError, match="a role of its own"):
        replace(step, responses=(*step.draws(), *step.draws()))


@pytest.mark.parametrize("name", ["dpo", "ipo", "chi_po"])
def test_the_anchor_is_called_what_it_is(name):
    """Otherwise the log's movement against the reference would be that against the iterate."""
    for reference, anchor, ref in (("start", "reference", PolicyRef(0)), ("iterate", "iterate", PolicyRef(2))):
        step = build_algorithm({"name": name, "reference": reference}).steps(2, DataFacts(1))[0]
        assert step.anchors == {anchor: ref}


def test_every_seat_s_policies_are_pruned(tiny_recipe, tmp_path):
    fields = {"name": "egpo", "step_size": 2.0, "samples": 2, "pairing": "iid"}
    plain = {**tiny_recipe, "algorithm": fields, "rounds": 3, "keep_iterates": 0}
    run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    kept = sorted(str(p.relative_to(tmp_path / "run/rounds")) for p in (tmp_path / "run/rounds").rglob("policy"))
    assert kept == ["002/half/policy", "002/policy"]
