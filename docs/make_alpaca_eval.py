"""Writes the table of reproduced rows in docs/evaluation/alpaca-eval.md.

Needs published judgments, which may not be passed on: SPARRING_EVALUATION_DATA names a folder with

    alpaca_eval/    prompts_and_baselines.parquet (prompt_index, instruction, baseline_gpt4_1106_preview),
                    ae2_outputs_preferences.parquet (model, prompt_index, output, preference: that the output wins),
                    ae2_published.csv (rows of the leaderboard), gamed_baseline_reconstructed.csv (`df_gamed.csv`)
    bon_tulu2_13b/  samples16_preferences.parquet (sample, prompt_index, output, preference),
                    reference_gpt35turbo0613.parquet (prompt_index, output), published_even.csv (sample, win rates)

made of the sources on the page. Leaves out: fetching them.

    SPARRING_EVALUATION_DATA=my/data python docs/make_alpaca_eval.py
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tables import write_section

from sparring.evaluation.alpaca_eval import read_gamed, win_rates
from sparring.evaluation.annotations import Judgments
from sparring.evaluation.length_control import Gamed, length_controlled

COUNT = 805
Rows = list[dict[str, Any]]


def read_csv(path: Path) -> Rows:
    """A CSV file's rows."""
    with path.open() as stream:
        return list(csv.DictReader(stream))


def judged(rows: Rows, baseline: dict[int, str], name: str) -> tuple[Judgments, np.ndarray]:
    """A model's judgments and the numbers of their instructions, in AlpacaEval's order."""
    rows = sorted(rows, key=lambda row: row["prompt_index"])
    indices = [row["prompt_index"] for row in rows]
    judgments = Judgments(
        model=name,
        baseline="baseline",
        judge="weighted_alpaca_eval_gpt4_turbo",
        instructions=[str(index) for index in indices],
        outputs=[row["output"] for row in rows],
        baseline_outputs=[baseline[index] for index in indices],
        preferences=np.array([math.nan if row["preference"] is None else row["preference"] for row in rows]),
    )
    return judgments, np.array(indices)


def sets(data: Path) -> Iterator[tuple[dict[str, str], Judgments, np.ndarray]]:
    """Every published row with its judgments: the leaderboard's models, then best-of-16 of Tulu 2."""
    folder = data / "alpaca_eval"
    prompts = pq.read_table(folder / "prompts_and_baselines.parquet").to_pylist()
    baseline = {row["prompt_index"]: row["baseline_gpt4_1106_preview"] for row in prompts}
    table = pq.read_table(folder / "ae2_outputs_preferences.parquet").to_pylist()
    for told in read_csv(folder / "ae2_published.csv"):
        name = told["model"]
        yield told, *judged([row for row in table if row["model"] == name], baseline, name)
    folder = data / "bon_tulu2_13b"
    reference = pq.read_table(folder / "reference_gpt35turbo0613.parquet").to_pylist()
    baseline = {row["prompt_index"]: row["output"] for row in reference}
    samples = pq.read_table(folder / "samples16_preferences.parquet").to_pylist()
    for told in read_csv(folder / "published_even.csv"):
        some = [row for row in samples if row["sample"] == int(told["sample"])]
        if any(row["preference"] is not None and not math.isnan(row["preference"]) for row in some):
            name = f"tulu-2-dpo-13b, sample {told['sample']}"
            yield told, *judged(some, baseline, name)


def line(told: dict[str, str], judgments: Judgments, indices: np.ndarray, gamed: Gamed) -> tuple[str, float, float]:
    """One line of the table, and how far its two numbers are from the published ones."""
    raw = win_rates(judgments.preferences)["win_rate"]

    def controlled(rows: np.ndarray) -> float:
        controlled = length_controlled(judgments.preferences, *judgments.lengths(), gamed, rows, resamples=1)
        return 100 * controlled.rate.value

    by_text = controlled(indices)
    whole = len(indices) == COUNT
    as_published = by_text if whole else controlled(np.arange(len(indices)))
    published_raw, published = float(told["win_rate"]), float(told["length_controlled_winrate"])
    note = "" if whole else f"{by_text:.2f}"
    cells = (
        judgments.model,
        str(len(indices)),
        f"{published_raw:.4f}",
        f"{raw:.4f}",
        f"{published:.2f}",
        f"{as_published:.2f}",
        f"{as_published - published:+.3f}",
        note,
    )
    return f"| {' | '.join(cells)} |", abs(raw - published_raw), abs(as_published - published)


def main() -> None:
    """Compute every row and write the table into the page."""
    data = Path(os.environ["SPARRING_EVALUATION_DATA"])
    gamed = read_gamed(data / "alpaca_eval/gamed_baseline_reconstructed.csv")
    lines, raw_gaps, gaps = [], [], []
    for told, judgments, indices in sets(data):
        text, raw_gap, gap = line(told, judgments, indices, gamed)
        lines.append(text)
        raw_gaps.append(raw_gap)
        gaps.append(gap)
        print(text, flush=True)
    heading = ("model", "rows", "raw, published", "raw", "LC, published", "LC", "difference", "LC joined by text")
    summary = (
        f"{len(lines)} rows: raw win rates differ by at most {max(raw_gaps):.0e} points, length-controlled ones by at "
        f"most {max(gaps):.2f} (median {np.median(gaps):.4f})."
    )
    table = [summary, "", f"| {' | '.join(heading)} |", "|---|" + "---:|" * (len(heading) - 1), *lines]
    write_section("evaluation/alpaca-eval.md", "make_alpaca_eval.py", table)


if __name__ == "__main__":
    main()
