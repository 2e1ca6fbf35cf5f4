"""AlpacaEval's numbers from judgments: win rate, standard error, length-controlled win rate, leaderboard row.

    row = leaderboard_row(judgments, gamed, indices); row["length_controlled_winrate"]

The definitions are AlpacaEval's (tatsu-lab/alpaca_eval 0.6.6), so that rows can be compared with its leaderboards:
shares in percent, a tie counts one half, an instruction without a preference is left out of the raw win rate and gets a
prediction in the length-controlled one. One thing is different on purpose: AlpacaEval takes the position of a row
for the number of its instruction, so that one missing or moved row gives every later row another instruction's
difficulty; here rows are joined by text (`--by-position` gives theirs).

Leaves out: judging, and the prompts of AlpacaEval's annotators.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparring import __version__
from sparring.data.rows import read_rows
from sparring.evaluation.annotations import Judgments, read_judgments
from sparring.evaluation.intervals import SHARE, interval
from sparring.evaluation.length_control import Gamed, LengthControlled, length_controlled
from sparring.recipe.sections import DatasetConfig
from sparring.runtime.files import hash_file

HUB = "tatsu-lab/alpaca_eval"
GAMED_FILE = "df_gamed.csv"
IN_ORDER = "191661c5d4e0fa6350b3eec588862a9c9256d2c15fed13e2411f770cbedf47c4"
"""`digest` of AlpacaEval's 805 instructions in their order, which is that of the difficulties"""
SORTED = "e3e1cac29774dadeb65f26e7cf9173b6c0b31e68a29fe94b7e28e1f009d6d3d8"
"""`digest` of the same instructions, sorted"""
GAMED_COLUMNS = ("index", "preference", "std_delta_len", "instruction_difficulty")
OTHER_SET = "For another set of instructions use --formula length_controlled_minimal."
COUNTS = ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate")
ROW = (*COUNTS, "mode", "avg_length", "length_controlled_winrate", "lc_standard_error", "annotator")
"""AlpacaEval's leaderboard columns, and the judge, without which a row means nothing"""


def win_rates(preferences: np.ndarray) -> dict[str, float | int]:
    """Raw win rates in percent, and counts, as AlpacaEval's get_winrate computes them; NaN preferences are left out."""
    known = preferences[~np.isnan(preferences)]
    assert len(known), "the regression has refused this"
    wins, losses = int((known > 0.5).sum()), int((known < 0.5).sum())
    draws = len(known) - wins - losses
    error = 100 * float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    discrete = 100 * (wins + draws / 2) / len(known)
    values = 100 * float(known.mean()), error, wins, losses, draws, len(known), discrete
    return dict(zip(COUNTS, values, strict=True))


def control_length(
    judgments: Judgments, gamed: Gamed | None = None, indices: np.ndarray | None = None
) -> LengthControlled:
    """The length-controlled win rate of judgments; see `length_controlled`."""
    return length_controlled(judgments.preferences, *judgments.lengths(), gamed, indices)


def leaderboard_row(judgments: Judgments, controlled: LengthControlled) -> dict[str, Any]:
    """One row of AlpacaEval's leaderboard.csv: shares in percent, the length in characters."""
    length = int(judgments.lengths()[0].mean())
    values = "community", length, 100 * controlled.rate.value, 100 * controlled.standard_error, judgments.judge
    return {**win_rates(judgments.preferences), **dict(zip(ROW[len(COUNTS) :], values, strict=True))}


def evaluate(judgments: Judgments, gamed: Gamed | None = None, indices: np.ndarray | None = None) -> dict[str, Any]:
    """All results of judgments as plain data, shares in [0, 1]; `leaderboard` is AlpacaEval's row, in percent.

    Raises:
        ValueError: the regression is not possible; see `length_controlled`.
    """
    known = judgments.preferences[~np.isnan(judgments.preferences)]
    controlled = control_length(judgments, gamed, indices)
    return {
        "model": judgments.model,
        "baseline": judgments.baseline,
        "judge": judgments.judge,
        "judged": len(known),
        "left_out": {"no preference": len(judgments.preferences) - len(known), **judgments.dropped},
        "empty_answers": sum(not text.strip() for text in judgments.outputs),
        "win_rate": interval(known.tolist(), SHARE),
        "length_controlled": controlled.rate,
        "leaderboard": leaderboard_row(judgments, controlled),
    }


@dataclass(frozen=True, slots=True)
class Difficulties:
    """What the length-controlled win rate needs beside judgments: difficulties, and which instruction has which."""

    gamed: Gamed | None = None
    """None: the minimal formula, which has no difficulties"""
    instructions: Sequence[str] | None = None
    """in the order of the difficulties; None: by text, of AlpacaEval's own"""
    by_position: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)
    """what was read, by its part"""
    fetched: bool = False
    """the difficulties are the hub's file"""

    def result(self, annotations: Sequence[Path], stored: Mapping[str, Any]) -> dict[str, Any]:
        """All results of files of annotations, with `left_out` and `sides` of the contest that made them, if one did.

        Raises:
            ValueError: an instruction has no difficulty, or the regression is not possible.
        """
        judgments = read_judgments(*annotations)
        indices = None
        if self.gamed is not None:
            count = len(self.gamed.by_index)
            indices = instruction_indices(judgments, self.instructions, count, self.by_position)
        result = evaluate(judgments, self.gamed, indices)
        result["left_out"] |= stored.get("left_out", {})
        files = {**self.files, **{f"annotations{number or ''}": path for number, path in enumerate(annotations)}}
        return {
            **result,
            "sparring_version": __version__,
            "files": {name: {"path": str(path), "sha256": hash_file(path)} for name, path in files.items()},
            "gamed": None if self.gamed is None else "the hub's file" if self.fetched else "given file",
            "sides": stored.get("sides"),
        }


def read_difficulties(
    minimal: bool, gamed: Path | None, instructions: Path | None, texts: Sequence[str] | None, by_position: bool
) -> Difficulties:
    """The difficulties of --formula and --gamed, for `texts` of the file `instructions`, checked before all else.

    Raises:
        ValueError: they cannot be had, or are of other instructions.
    """
    files = {} if instructions is None else {"instructions": instructions}
    if minimal:  # no difficulty per instruction
        return Difficulties(files=files)
    file = gamed or fetch_gamed()
    read = read_gamed(file)
    if texts is not None and not by_position:
        check_order(texts, len(read.by_index))
    return Difficulties(read, texts, by_position, {"gamed": file, **files}, gamed is None)


def digest(instructions: Sequence[str]) -> str:
    """SHA-256 of instructions in their order, without surrounding white space."""
    return hashlib.sha256(json.dumps([text.strip() for text in instructions]).encode()).hexdigest()


def check_order(instructions: Sequence[str], count: int) -> None:
    """Check that --instructions say which of `count` difficulties belongs to which row.

    Raises:
        ValueError: they are more or fewer, or AlpacaEval's in another order.
    """
    if len(instructions) != count:
        raise ValueError(
            f"--instructions: it must hold the {count} instructions of the difficulties, in their order; it has "
            f"{len(instructions)} rows. {OTHER_SET}"
        )
    if digest(instructions) != IN_ORDER and digest(sorted(text.strip() for text in instructions)) == SORTED:
        raise ValueError(
            "--instructions: it holds AlpacaEval's instructions in another order than AlpacaEval's, so each would get "
            "another one's difficulty. Give alpaca_eval.json as AlpacaEval has it."
        )


def check_known(answered: Sequence[Sequence[str]]) -> None:
    """Check that one side's instructions are AlpacaEval's in their order, so that rows will need no --instructions.

    Raises:
        ValueError: neither side's are.
    """
    if all(digest(instructions) != IN_ORDER for instructions in answered):
        raise ValueError(
            "--instructions: missing, and no side is a file with AlpacaEval's instructions in AlpacaEval's order, so "
            "which row has which difficulty would be unknown. Give alpaca_eval.json; or, for another set of "
            "instructions, --formula length_controlled_minimal."
        )


def instruction_indices(
    judgments: Judgments, instructions: Sequence[str] | None, count: int, by_position: bool = False
) -> np.ndarray:
    """The number of each row's instruction among AlpacaEval's `count`: by text, without `instructions` by position.

    Without `instructions` a hash must show that the rows are AlpacaEval's in their order. `by_position` takes the
    position unchecked, as AlpacaEval does, also where rows are missing.

    Raises:
        ValueError: a row is not among `instructions`; or without them the rows are others or in another order.
    """
    rows = len(judgments.instructions)
    if by_position and rows <= count:
        return np.arange(rows)
    if instructions is None:
        if rows != count:
            raise ValueError(
                f"annotations: {rows} rows, but {count} instructions have a difficulty, so which row is which "
                "instruction is unknown. Give --instructions (AlpacaEval's, in their order)."
            )
        if digest(judgments.instructions) != IN_ORDER:
            raise ValueError(
                f"annotations: the {count} rows are not AlpacaEval's instructions in AlpacaEval's order, so which row "
                "has which difficulty is unknown. Give --instructions (alpaca_eval.json); or --by-position, if the "
                "rows stand in the order of --gamed."
            )
        return np.arange(count)
    check_order(instructions, count)
    place = {text: index for index, text in enumerate(instructions)}
    if unknown := [text for text in judgments.instructions if text not in place]:
        raise ValueError(f"--instructions: {len(unknown)} rows are not in it, such as {unknown[0][:60]!r}. {OTHER_SET}")
    return np.array([place[text] for text in judgments.instructions])


def read_gamed(path: Path) -> Gamed:
    """The judgments of the baseline against its gamed versions: df_gamed.csv, or a file with its columns.

    Raises:
        ValueError: a column is missing, a value is no number, or an instruction has two difficulties.
    """
    rows = read_rows(DatasetConfig(path=str(path)))
    if missing := [column for column in GAMED_COLUMNS if not rows or column not in rows[0]]:
        raise ValueError(f"--gamed: {str(path)!r} has no column {missing[0]!r}; it needs {', '.join(GAMED_COLUMNS)}.")
    try:
        table = np.array([[float(row[column]) for column in GAMED_COLUMNS] for row in rows])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"--gamed: {str(path)!r} holds no number where one is due ({error}). Fetch it again."
        ) from error
    index = table[:, 0].astype(int)
    count = int(index.max()) + 1
    by_index = np.full(count, math.nan)
    by_index[index] = table[:, 3]
    whole = np.isfinite(table).all() and not np.isnan(by_index).any() and (by_index[index] == table[:, 3]).all()
    if not whole or len(table) != 2 * count:
        raise ValueError(
            f"--gamed: {str(path)!r} must hold two rows and one difficulty for each of {count} instructions, it has "
            f"{len(table)} rows. It may be cut short: fetch it again."
        )
    return Gamed(table[:, 1], table[:, 2], table[:, 3], by_index)


def fetch_gamed() -> Path:
    """AlpacaEval's own file from the hub.

    Raises:
        ValueError: it cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB, GAMED_FILE, repo_type="dataset"))
    except Exception as error:
        raise ValueError(
            f"--gamed: {GAMED_FILE} could not be fetched from the hub data set {HUB} ({type(error).__name__}). "
            "Download it and give its path, or use --formula length_controlled_minimal, which does not need it."
        ) from error


def leaderboard(path: Path | None, model: str, row: Mapping[str, Any]) -> str:
    """A leaderboard CSV of AlpacaEval's form with the model's row and those in `path`, best first.

    Raises:
        ValueError: the file holds rows of another judge, or is no leaderboard.
    """
    rows = {} if path is None or not path.exists() else _other_rows(path, str(row["annotator"]))
    rows[model] = dict(row)
    ordered = sorted(rows.items(), key=lambda item: -float(item[1].get("length_controlled_winrate") or "-inf"))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["", *ROW], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"": name, **values} for name, values in ordered)
    return stream.getvalue()


def _other_rows(path: Path, judge: str) -> dict[str, dict[str, Any]]:
    rows = read_rows(DatasetConfig(path=str(path)))
    if not rows or "win_rate" not in rows[0]:
        raise ValueError(f"--leaderboard: {str(path)!r} is no leaderboard: it has no column 'win_rate'.")
    name = next(iter(rows[0]))
    if others := {row.get("annotator") or "not named" for row in rows} - {judge}:
        raise ValueError(
            f"--leaderboard: {str(path)!r} holds rows of another judge ({min(others)}) than this one ({judge}). "
            "Win rates of different judges cannot be compared: use one file per judge (column 'annotator')."
        )
    return {row[name]: {key: value for key, value in row.items() if key != name} for row in rows}
