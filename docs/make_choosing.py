"""Simulates which comparisons are worth asking, and writes the tables of docs/evaluation/choosing.md.

    python docs/make_choosing.py                                  # games that are drawn here
    python docs/make_choosing.py --alpaca-eval ae2=FILE.parquet --arena-bench scores.jsonl.gz
    python docs/make_choosing.py --repeats 20 --show

Stored verdicts: AlpacaEval's, a parquet file with model, prompt_index and preference (over the baseline, which is the
target), and Arena-Hard's first scores (question_id, model, gpt4_score), where the higher score wins. Of these the
truth is the mean over all prompts, and each draw is of other models, and of prompts with replacement. Leaves out:
ratings (`make_choosing_ratings.py`), people's votes.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from make_coverage import shift_for
from numpy.typing import NDArray
from scipy.special import expit
from tables import table, write_section

from sparring.evaluation.duality_gap import attack_intervals
from sparring.evaluation.exploitability import Attack
from sparring.evaluation.intervals import SHARE, interval
from sparring.evaluation.racing import Race, plan_race, raced_gap

PAGE, SCRIPT = "evaluation/choosing.md", "make_choosing.py"
Array = NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], tuple[Array, float]]
"""preferences of M attackers on N prompts, and the largest true one"""


class Ends(NamedTuple):
    """An interval of the largest preference, and the verdicts that it took."""

    low: float
    high: float
    verdicts: int

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low


def uniform(values_NM: Array) -> tuple[Ends, float]:
    """All verdicts; and the upper end at 2.5 % / M, as `evaluate exploitability` gives it for the uniform design."""
    divided = attack_intervals(values_NM)
    high = max(interval(column.tolist(), SHARE).high for column in values_NM.T)
    return Ends(max(one.low for one in divided), high, values_NM.size), max(one.high for one in divided)


def adaptive(values_NM: Array, budget: int | None = None) -> tuple[Ends, float]:
    """The race on these, and its estimate of the largest preference."""
    ones = np.ones(values_NM.shape, dtype=np.int64)
    race = plan_race(ones, budget)
    return _race(race, values_NM, ones)


def _race(race: Race, values_NM: Array, cost_NM: NDArray[np.int64]) -> tuple[Ends, float]:
    runs, seen, choices, begin = list(range(values_NM.shape[1])), np.full_like(values_NM, np.nan), [], 0
    for look, end in enumerate(race.looks):
        seen[begin:end, runs] = values_NM[begin:end, runs]
        spent = int((~np.isnan(seen)).sum())
        if look < len(race.looks) - 1:
            found = {m: [Attack(str(m), seen[:end, m].tolist())] for m in runs}
            runs, dropped = race.choose(look, found, cost_NM, spent)
            choices.append({"prompts": end, "kept": runs, "dropped": dropped})
        begin = end
    gap = raced_gap(race, {m: [Attack(str(m), column.tolist())] for m, column in enumerate(seen.T)}, choices)["gap"]
    return Ends((gap.low + 1) / 2, (gap.high + 1) / 2, spent), (gap.value + 1) / 2


# ---- games ------------------------------------------------------------------------------------


def drawn(truths: Sequence[float], soft: bool = False) -> Draw:
    """One answer each to a prompt; prompts have normal effects of twice the spread of an answer's."""
    shifts = np.array([shift_for(truth, soft) for truth in truths])

    def draw(prompts: int, rng: np.random.Generator) -> tuple[Array, float]:
        effects = 2 * rng.normal(size=(prompts, 1)) - rng.normal(size=(prompts, 1))
        odds = shifts + effects + rng.normal(size=(prompts, len(shifts)))
        return (expit(odds) if soft else (odds > 0).astype(float)), max(truths)

    return draw


POOLS = {
    "spread: .30, .35, ... .65": drawn(np.arange(0.3, 0.66, 0.05).tolist()),
    "spread, soft verdicts": drawn(np.arange(0.3, 0.66, 0.05).tolist(), soft=True),
    "one at .60, seven at .45": drawn([0.6, *[0.45] * 7]),
    "two at .55, six at .45": drawn([0.55, 0.55, *[0.45] * 6]),
    "four: .40, .45, .50, .55": drawn([0.4, 0.45, 0.5, 0.55]),
    "eight at .50": drawn([0.5] * 8),
}


def alpaca_eval(path: Path, models: int = 8) -> Draw:
    """So many models of AlpacaEval against its baseline."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["model", "prompt_index", "preference"]).to_pandas()
    return _sampled(rows.pivot(index="prompt_index", columns="model", values="preference").dropna().to_numpy(), models)


def _sampled(all_NM: Array, models: int) -> Draw:
    def draw(prompts: int, rng: np.random.Generator) -> tuple[Array, float]:
        columns = rng.choice(all_NM.shape[1], models, replace=False)
        rows = rng.integers(len(all_NM), size=prompts)
        return all_NM[np.ix_(rows, columns)], float(all_NM[:, columns].mean(0).max())

    return draw


def arena_scores(path: Path) -> Array:
    """Scores of prompts x models, of the prompts on which every model has one."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    prompts, names = (sorted({row[key] for row in rows}) for key in ("question_id", "model"))
    scores = np.full((len(prompts), len(names)), np.nan)
    for row in rows:
        score = str(row["gpt4_score"])
        if score.replace(".", "", 1).isdigit():
            scores[prompts.index(row["question_id"]), names.index(row["model"])] = float(score)
    return scores[~np.isnan(scores).any(1)]


def arena_bench(path: Path, models: int = 8) -> Draw:
    """One model of ten is the target, and so many others attack it; of a prompt the higher score wins."""
    scores = arena_scores(path)

    def draw(prompts: int, rng: np.random.Generator) -> tuple[Array, float]:
        target, *others = rng.permutation(scores.shape[1])[: models + 1].tolist()
        won = (np.sign(scores[:, others] - scores[:, [target]]) + 1) / 2
        return won[rng.integers(len(won), size=prompts)], float(won.mean(0).max())

    return draw


# ---- tables -----------------------------------------------------------------------------------


def row(name: str, draw: Draw, prompts: int, repeats: int, seed: int) -> list[str]:
    """A pool's name, prompts, and what both designs gave."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(repeats):
        values, truth = draw(prompts, rng)
        (all_, wide), (some, estimate) = uniform(values), adaptive(values)
        found.append(
            [
                some.verdicts / all_.verdicts,
                some.width / all_.width,
                some.width / (wide - all_.low),
                all_.low <= truth <= all_.high,
                some.low <= truth <= some.high,
                some.low > truth,
                estimate - truth,
            ]
        )
    asked, wider, today, sure, held, above, bias = np.array(found, dtype=float).mean(0)
    shown = [f"{asked:.0%}", f"{wider:.3f}", f"{today:.3f}", f"{asked * wider**2:.0%}"]
    return [name, str(prompts), *shown, *(f"{100 * share:.1f}" for share in (sure, held, above)), f"{bias:+.3f}"]


HEAD = (
    "attackers (eight where not said)",
    "prompts",
    "verdicts asked",
    "width, of uniform with the same ends",
    "of uniform as it is",
    "verdicts for the same width",
    "uniform covers, %",
    "adaptive covers, %",
    "its low end above the truth, %",
    "its estimate less the truth",
)


def main() -> None:
    """Simulate, and write or show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--alpaca-eval", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--arena-bench", type=Path)
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 250, 800])
    parser.add_argument("--show", action="store_true", help="print the table, and leave the page as it is")
    arguments = parser.parse_args()
    pools: dict[str, tuple[Draw, list[int]]] = {name: (draw, arguments.prompts) for name, draw in POOLS.items()}
    for given in arguments.alpaca_eval:
        name, _, file = given.partition("=")
        pools[name] = alpaca_eval(Path(file)), [100, 250, 800]
    if arguments.arena_bench:
        pools["Arena-Hard's first scores"] = arena_bench(arguments.arena_bench), [100, 275]
    rows = []
    for seed, (name, (draw, sizes)) in enumerate(pools.items()):
        for prompts in sizes:
            rows.append(row(name, draw, prompts, arguments.repeats, seed))
            print(" | ".join(rows[-1]), flush=True)
    if not arguments.show:
        write_section(PAGE, SCRIPT, table(HEAD, rows))


if __name__ == "__main__":
    main()
