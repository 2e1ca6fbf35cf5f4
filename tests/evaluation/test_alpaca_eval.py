"""AlpacaEval's numbers: definitions on small files, bad files, and published leaderboard rows where their data are."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from command import sparring
from sparring.evaluation import alpaca_eval
from sparring.evaluation.annotations import annotation_rows, read_judgments
from sparring.evaluation.length_control import Gamed, length_controlled, separable
from sparring.evaluation.logistic import cross_entropies, fit_logistic

DATA = Path(os.environ.get("SPARRING_EVALUATION_DATA", "-")) / "alpaca_eval"
real = pytest.mark.skipif(not DATA.is_dir(), reason="SPARRING_EVALUATION_DATA names no folder with alpaca_eval/")
COUNT = 40


def rows(count: int = COUNT, **changes: Any) -> list[dict[str, Any]]:
    """Annotations in AlpacaEval's format; longer outputs win more often."""
    draw = np.random.default_rng(0)
    made = []
    for index in range(count):
        length = int(draw.integers(5, 60))
        chance = float(expit((length - 30) / 15 + draw.normal()))
        made.append(
            {
                "instruction": f"question {index}",
                "output_1": "b" * 30,
                "generator_1": "baseline",
                "output_2": "m" * length,
                "generator_2": "mine",
                "annotator": "judge",
                "preference": 1 + chance,
                **changes,
            }
        )
    return made


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def gamed_file(path: Path, count: int = COUNT) -> Path:
    draw = np.random.default_rng(1)
    gamma = draw.normal(size=count)
    table = [
        ["m", i, float(expit(3 * sign + 0.3 * gamma[i])), -sign * draw.random(), gamma[i], False]
        for sign in (1, -1)
        for i in range(count)
    ]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["model", "index", "preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"]
        )
        writer.writerows(table)
    return path


def test_win_rates_count_ties_and_leave_out_what_was_not_judged():
    found = alpaca_eval.win_rates(np.array([1.0, 0.0, 0.5, 0.7, math.nan]))
    assert found["win_rate"] == pytest.approx(55.0)
    assert (found["n_wins"], found["n_wins_base"], found["n_draws"], found["n_total"]) == (2, 1, 1, 4)
    assert found["discrete_win_rate"] == pytest.approx(62.5)
    assert found["standard_error"] == pytest.approx(100 * np.std([1, 0, 0.5, 0.7], ddof=1) / 2)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("strength", [0.01, 1.0, 1e4])
def test_fit_is_the_penalised_minimum(strength, free):
    draw = np.random.default_rng(2)
    features, targets = draw.normal(size=(80, 3)), draw.random(80)
    importance = draw.random(80)
    penalties = np.array([1.0, 0.0 if free else 1.0, 1.0]) / strength
    found = fit_logistic(features, targets, importance, penalties)

    def loss(weights: np.ndarray) -> float:
        return float(importance @ cross_entropies(features @ weights, targets) + penalties @ np.abs(weights))

    best = min(minimize(loss, start, method="Nelder-Mead", tol=1e-12).fun for start in (np.zeros(3), found))
    assert loss(found) <= best + 1e-9


def test_equal_lengths_leave_the_win_rate_as_it_is():
    preferences = np.random.default_rng(3).random(60)
    found = length_controlled(preferences, np.full(60, 9), np.full(60, 9))
    assert found.rate.value == pytest.approx(preferences.mean(), abs=0.01)
    assert found.rate.weights["length"] == 0


@pytest.mark.parametrize("count", [30, 100, 200])
def test_few_prompts_do_not_make_equal_lengths_a_sure_tie(count):
    """The penalty set the model's weight to 0: 50.0 % (50.0 to 50.0), whatever the answers were worth."""
    draw = np.random.default_rng(5)
    preferences = (draw.random(count) < 0.58).astype(float)
    found = length_controlled(preferences, draw.integers(50, 200, count), draw.integers(50, 200, count))
    assert found.rate.value == pytest.approx(preferences.mean(), abs=0.03)
    assert found.rate.high - found.rate.low > 3 * np.sqrt(0.25 / count)


def test_a_judge_of_length_alone_is_controlled_to_a_half():
    """d_i drives the whole preference, and its mean is not 0."""
    draw = np.random.default_rng(4)
    lengths, baseline = draw.integers(80, 200, 400), draw.integers(50, 150, 400)
    gap = (baseline - lengths).astype(float)
    chances = expit(-2 * np.tanh(gap / gap.std(ddof=1)))
    assert length_controlled(chances, lengths, baseline).rate.value == pytest.approx(0.5, abs=1e-3)
    preferences = (draw.random(400) < chances).astype(float)
    found = length_controlled(preferences, lengths, baseline)
    assert preferences.mean() > 0.6
    assert found.rate.value == pytest.approx(0.5, abs=0.05)
    assert found.rate.low <= 0.5 <= found.rate.high
    assert found.rate.high - found.rate.low == pytest.approx(4 * found.standard_error, rel=0.25)


def test_few_prompts_do_not_leave_length_in():
    """Cross-validation set length's weight to 0 in most such draws: the raw win rate again, with a narrow interval."""
    draw, found = np.random.default_rng(21), []
    for _ in range(80):
        ours, theirs = (300 * np.exp(shift + 0.4 * draw.normal(size=30)) for shift in (0.6, 0.0))
        preferences = (draw.random(30) < expit(1.5 * np.log(ours / theirs))).astype(float)
        found.append((preferences.mean(), length_controlled(preferences, ours.round(), theirs.round(), resamples=60)))
    assert np.mean([raw for raw, _ in found]) > 0.65
    assert np.mean([one.rate.value for _, one in found]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([one.rate.low <= 0.5 <= one.rate.high for _, one in found]) > 0.87
    assert sum(one.rate.weights["length"] == 0 for _, one in found) < 4


def test_lengths_that_cannot_be_told_from_the_model_are_refused():
    preferences, lengths = np.full(30, 0.8), np.arange(30) % 3 + 90
    with pytest.raises(ValueError, match="lengths differ by nearly the same"):
        length_controlled(preferences, lengths, np.full(30, 3))


@pytest.mark.parametrize("gap", [0, 7])
def test_one_difference_of_lengths_is_told_from_the_model_only_where_it_is_none(gap):
    assert separable(np.array([50, 60]) - gap, np.array([50, 60])) is (gap == 0)
    assert separable(np.array([50 - gap]), np.array([50])) is (gap == 0)


def test_too_few_or_equal_preferences_are_no_certainty():
    lengths, baseline = np.arange(30), np.arange(30)[::-1]
    with pytest.raises(ValueError, match="at least 5 preferences, got 1"):
        length_controlled(np.full(1, 0.7), lengths[:1], baseline[:1])
    tied = length_controlled(np.full(30, 0.5), lengths, baseline)
    assert tied.rate.value == 0.5
    assert tied.rate.high - tied.rate.low > 0.95 * (1 - 0.025 ** (1 / 30))


def test_sides_can_be_swapped():
    given = rows()
    ours = np.array([len(r["output_2"]) for r in given])
    theirs = np.array([len(r["output_1"]) for r in given])
    preferences = np.array([r["preference"] - 1 for r in given])
    there, back = length_controlled(preferences, ours, theirs), length_controlled(1 - preferences, theirs, ours)
    assert there.rate.value + back.rate.value == pytest.approx(1, abs=1e-6)


def test_row_order_does_not_matter_when_instructions_are_given(tmp_path):
    """What AlpacaEval's own code gets wrong: it takes the position of a row for its instruction."""
    gamed = gamed_file(tmp_path / "gamed.csv")
    given, order = rows(), np.random.default_rng(5).permutation(COUNT)
    instructions = written(tmp_path / "instructions.json", [{"instruction": r["instruction"]} for r in given])
    found = []
    for name, some in (("ordered", given), ("moved", [given[i] for i in order])):
        file = written(tmp_path / f"{name}.json", some)
        words = ("--annotations", file, "--gamed", gamed, "--instructions", instructions, "--json")
        found.append(json.loads(sparring("evaluate", "alpaca-eval", *words).out))
    assert found[0]["win_rate"] == pytest.approx(found[1]["win_rate"], abs=0.02)
    assert found[0]["length_controlled"]["value"] == pytest.approx(found[1]["length_controlled"]["value"], abs=0.01)
    words = ("--annotations", tmp_path / "moved.json", "--gamed", gamed)
    refused = sparring("evaluate", "alpaca-eval", *words)
    assert (refused.code, "not AlpacaEval's instructions in AlpacaEval's order" in refused.err) == (2, True)
    swapped = sparring("evaluate", "alpaca-eval", *words, "--by-position", "--json")
    assert json.loads(swapped.out)["length_controlled"] != found[1]["length_controlled"]


def test_the_order_is_believed_only_where_the_hash_tells_it(tmp_path, monkeypatch):
    given = rows()
    texts = [row["instruction"] for row in given]
    monkeypatch.setattr(alpaca_eval, "IN_ORDER", alpaca_eval.digest(texts))
    monkeypatch.setattr(alpaca_eval, "SORTED", alpaca_eval.digest(sorted(texts)))
    judgments = read_judgments(written(tmp_path / "a.json", given))
    assert alpaca_eval.instruction_indices(judgments, None, COUNT).tolist() == list(range(COUNT))
    with pytest.raises(ValueError, match="in another order than AlpacaEval's"):
        alpaca_eval.instruction_indices(judgments, texts[::-1], COUNT)
    moved = read_judgments(written(tmp_path / "b.json", given[::-1]))
    with pytest.raises(ValueError, match="or --by-position"):
        alpaca_eval.instruction_indices(moved, None, COUNT)


@real
def test_the_hashes_are_those_of_alpaca_evals_instructions():
    prompts = pq.read_table(DATA / "prompts_and_baselines.parquet").to_pylist()
    texts = [p["instruction"].strip() for p in sorted(prompts, key=lambda p: p["prompt_index"])]
    assert alpaca_eval.digest(texts) == alpaca_eval.IN_ORDER
    assert alpaca_eval.digest(sorted(texts)) == alpaca_eval.SORTED


def test_what_is_here_is_checked_before_the_hub_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(alpaca_eval, "fetch_gamed", lambda: pytest.fail("asked the hub"))
    (tmp_path / "cut.json").write_text('[{"instruction": "a", "outp')
    whole = written(tmp_path / "whole.json", [{"instruction": "a", "output": "b"}])
    told = ("--oracle", "length", "--out", tmp_path / "out")
    for words, message in (
        ((whole, *told), "missing: --baseline"),
        ((tmp_path / "cut.json", "--baseline", whole, *told), "cut.json' cannot be read"),
        (("--annotations", tmp_path / "cut.json"), "cut.json' cannot be read"),
        (("--annotations", tmp_path / "none.json"), "is not a file"),
        (("--from-stored", tmp_path / "nothing"), "no finished contest"),
        ((whole, "--baseline", whole, *told, "--sampling", "heat=1"), "heat"),
        ((whole, "--baseline", whole, *told), "--instructions: missing"),
    ):
        refused = sparring("evaluate", "alpaca-eval", *words)
        assert (refused.code, message in refused.err) == (2, True), refused.err


def test_a_key_that_few_rows_lack_is_no_preference_and_one_that_many_lack_an_error(tmp_path):
    given = rows()
    del given[0]["preference"]
    assert math.isnan(read_judgments(written(tmp_path / "few.json", given)).preferences[0])
    for row in given[5:9]:
        del row["preference"]
    with pytest.raises(ValueError, match=r"no column 'preference' in 5 of 40 rows \(first: row 1\)"):
        read_judgments(written(tmp_path / "many.json", given))


def test_command_writes_a_row_that_can_be_read_again(tmp_path):
    file, gamed = written(tmp_path / "annotations.json", rows()), gamed_file(tmp_path / "gamed.csv")
    board = tmp_path / "board.csv"
    words = ("--gamed", gamed, "--by-position", "--leaderboard", board)
    shown = sparring("evaluate", "alpaca-eval", "--annotations", file, "--out", tmp_path / "out", *words)
    assert shown.code == 0, shown.err
    assert f"length control by the given file {gamed} (sha256" in shown.out
    better = written(tmp_path / "better.json", rows(generator_2="better", preference=2))
    assert sparring("evaluate", "alpaca-eval", "--annotations", better, *words).code == 0
    with board.open() as stream:
        table = list(csv.DictReader(stream))
    assert [row[""] for row in table] == ["better", "mine"]
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["judge"] == "judge"
    assert set(result["files"]) == {"annotations", "gamed"}
    assert result["gamed"] == "given file"
    other = written(tmp_path / "other.json", rows(annotator="another judge"))
    refused = sparring("evaluate", "alpaca-eval", "--annotations", other, *words)
    assert refused.code == 2
    assert "different judges cannot be compared" in refused.err


def test_several_files_of_annotations_are_put_together(tmp_path):
    """The last one replaced the others in silence."""
    gamed = gamed_file(tmp_path / "gamed.csv")
    parts = [written(tmp_path / f"{n}.json", part) for n, part in enumerate((rows()[:15], rows()[15:]))]
    words = ("evaluate", "alpaca-eval", "--gamed", gamed, "--by-position", "--json")
    whole = sparring(*words, "--annotations", written(tmp_path / "whole.json", rows()))
    both = sparring(*words, "--annotations", parts[0], "--annotations", parts[1])
    assert (whole.code, both.code) == (0, 0)
    one, several = json.loads(whole.out), json.loads(both.out)
    assert several["judged"] == one["judged"] > 15
    assert several["win_rate"] == one["win_rate"]
    assert len(several["files"]) == len(one["files"]) + 1
    written(tmp_path / "other.json", [{**row, "generator_2": "other"} for row in rows()[20:23]])
    mixed = sparring(*words, "--annotations", parts[0], "--annotations", tmp_path / "other.json")
    assert (mixed.code, "2 values of generator_2" in mixed.err) == (2, True)


def test_a_bad_preference_is_named_by_its_row_in_the_file(tmp_path):
    """It was counted from 0, and without repeated rows."""
    given = [rows()[0], rows()[0], {**rows()[1], "preference": 7}]
    with pytest.raises(ValueError, match=r"bad.json', row 3: preference = 7"):
        read_judgments(written(tmp_path / "bad.json", given))


def test_annotations_survive_a_round_trip(tmp_path):
    given = [*rows(3), {**rows(4)[3], "preference": None}, {**rows(5)[4], "preference": 0}]
    first = read_judgments(written(tmp_path / "a.json", given))
    second = read_judgments(written(tmp_path / "b.json", annotation_rows(first)))
    assert second.preferences == pytest.approx(first.preferences, nan_ok=True)
    assert math.isnan(first.preferences[3])
    assert first.preferences[4] == 0.5


def test_a_row_given_twice_is_counted_once(tmp_path):
    given = rows()
    found = read_judgments(written(tmp_path / "a.json", [*given, given[3]]))
    assert len(found.preferences) == COUNT
    assert found.dropped == {"repeated rows": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: [*r, {**r[0], "preference": 1.9}], "two different judgments"),
        (lambda r: [*r[:-1], {**r[-1], "annotator": "another"}], "mixes 2 values of annotator"),
        (lambda r: [*r[:-1], {**r[-1], "preference": 3}], "preference = 3"),
        (lambda r: [*r[:-1], {**r[-1], "preference": "2"}], "preference = '2'"),
        (lambda r: [*r[:-1], {**r[-1], "output_2": None}], "output_2 = None"),
        (lambda r: [{k: v for k, v in row.items() if k != "preference"} for row in r], "no column 'preference'"),
        (lambda r: r[:30], "Give --instructions"),
        (lambda r: [], "no rows"),
    ],
)
def test_bad_annotations_are_refused(tmp_path, change, message):
    file, gamed = written(tmp_path / "annotations.json", change(rows())), gamed_file(tmp_path / "gamed.csv")
    outcome = sparring("evaluate", "alpaca-eval", "--annotations", file, "--gamed", gamed)
    assert outcome.code == 2
    assert message in outcome.err


def test_no_preference_at_all_is_refused(tmp_path):
    file, gamed = written(tmp_path / "a.json", rows(preference=None)), gamed_file(tmp_path / "gamed.csv")
    outcome = sparring("evaluate", "alpaca-eval", "--annotations", file, "--gamed", gamed, "--by-position")
    assert (outcome.code, "at least 5 preferences, got 0" in outcome.err) == (2, True)


def test_files_cut_short_are_refused(tmp_path):
    whole = json.dumps(rows())
    (tmp_path / "cut.json").write_text(whole[: len(whole) // 2])
    gamed = gamed_file(tmp_path / "gamed.csv")
    outcome = sparring("evaluate", "alpaca-eval", "--annotations", tmp_path / "cut.json", "--gamed", gamed)
    assert (outcome.code, "cannot be read" in outcome.err) == (2, True)
    gamed.write_text("".join(gamed.read_text().splitlines(keepends=True)[:-7]))
    file = written(tmp_path / "annotations.json", rows())
    outcome = sparring("evaluate", "alpaca-eval", "--annotations", file, "--gamed", gamed)
    assert (outcome.code, "cut short" in outcome.err) == (2, True)


def real_judgments(table: Any, model: str, annotator: str, texts: list[str], baseline: list[str], path: Path) -> Path:
    """A model's stored judgments as AlpacaEval's annotations.json."""
    found = sorted((row for row in table if row["model"] == model), key=lambda row: row["prompt_index"])
    made = [
        {
            "instruction": texts[row["prompt_index"]],
            "output_1": baseline[row["prompt_index"]],
            "generator_1": "baseline",
            "output_2": row["output"],
            "generator_2": model,
            "annotator": annotator,
            "preference": None if row["preference"] is None else 1 + row["preference"],
        }
        for row in found
    ]
    return written(path, made)


def published(name: str) -> dict[str, dict[str, str]]:
    with (DATA / name).open() as stream:
        return {row["model"]: row for row in csv.DictReader(stream)}


@real
def test_published_rows_come_out(tmp_path):
    """A handful; the page in docs/ has all 37."""
    prompts = pq.read_table(DATA / "prompts_and_baselines.parquet").to_pylist()
    texts, baseline = [p["instruction"] for p in prompts], [p["baseline_gpt4_1106_preview"] for p in prompts]
    table = pq.read_table(DATA / "ae2_outputs_preferences.parquet").to_pylist()
    gamed = alpaca_eval.read_gamed(DATA / "gamed_baseline_reconstructed.csv")
    for model in ("FuseChat-Gemma-2-9B-Instruct", "claude-2", "alpaca-7b", "gpt-3.5-turbo-1106"):
        file = real_judgments(table, model, "weighted_alpaca_eval_gpt4_turbo", texts, baseline, tmp_path / "a.json")
        judgments = read_judgments(file)
        indices = alpaca_eval.instruction_indices(judgments, texts, 805)
        row = alpaca_eval.leaderboard_row(judgments, alpaca_eval.control_length(judgments, gamed, indices))
        told = published("ae2_published.csv")[model]
        for column in ("win_rate", "standard_error", "discrete_win_rate"):
            assert row[column] == pytest.approx(float(told[column]), abs=1e-6), (model, column)
        for column in ("n_wins", "n_wins_base", "n_draws", "n_total", "avg_length"):
            assert row[column] == float(told[column]), (model, column)
        assert row["length_controlled_winrate"] == pytest.approx(float(told["length_controlled_winrate"]), abs=0.2)


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_fit_agrees_with_the_solver_that_alpaca_eval_uses():
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(6)
    features, targets = draw.normal(size=(300, 2)), draw.random(300)
    twice = np.vstack([features, features]), np.repeat([1, 0], 300), np.concatenate([targets, 1 - targets])
    solver = LogisticRegression(l1_ratio=1, solver="liblinear", C=2.78, fit_intercept=False, tol=1e-8, max_iter=10_000)
    solver.fit(twice[0], twice[1], sample_weight=twice[2])
    weights = fit_logistic(features, targets, np.ones(300), np.full(2, 1 / 2.78))
    assert weights == pytest.approx(solver.coef_[0], abs=1e-4)


def test_gamed_rows_pull_the_length_weight_towards_theirs():
    draw = np.random.default_rng(7)
    gamma = draw.normal(size=50)
    scaled = np.concatenate([np.full(50, 1.0), np.full(50, -1.0)])
    gamed = Gamed(expit(-4 * np.tanh(scaled)), scaled, np.tile(gamma, 2), gamma)
    lengths, baseline, preferences = draw.integers(10, 90, 50), np.full(50, 50), np.full(50, 0.5)
    free = length_controlled(preferences, lengths, baseline)
    pulled = length_controlled(preferences, lengths, baseline, gamed, np.arange(50))
    assert free.rate.weights["length"] == pytest.approx(0, abs=0.05)
    assert pulled.rate.weights["length"] < -0.3
