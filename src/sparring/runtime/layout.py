"""Where a run's files lie, and whether it is finished: a contract on disk that users' scripts may rely on.

    runs/NAME/recipe.yaml            what was asked, with every default
              lock.json              versions, hashes of models and data, hardware
              manifest.json          an entry per finished stage: hashes of its inputs and outputs
              data/                  training and held-out examples
              collect/, teacher/     preference pairs or gold answers that were made once, where the recipe asks
              rounds/000/            samples, verdicts, pairs, anchors (.parquet), fit.jsonl, policy/
              rounds/000/half/       the same of another seat of that round (`half`, `base`)
              evaluation/            held-out samples, summary.json
              report.html

Leaves out: columns of the tables (`rounds/tables.py`), and writing them.

    round_folder(2)  ->  "rounds/002"
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

RECIPE = "recipe.yaml"
LOCK = "lock.json"
MANIFEST = "manifest.json"
FIT_SETTINGS = "fit_settings.json"
"""whole `fit` sections by folder, of fits that were finished before their recipe's section changed"""
TRAIN = "data/train.parquet"
HELD_OUT = "data/held_out.parquet"
COLLECTED = "collect/train.parquet"
TAUGHT = "teacher/train.parquet"
SUMMARY = "evaluation/summary.json"
REPORT = "report.html"
SUMMARY_STAGE = "evaluation/summary"


def round_folder(t: int, seat: str = "play") -> str:
    """Folder of a round's step, relative to the run."""
    return f"rounds/{t:03d}" if seat == "play" else f"rounds/{t:03d}/{seat}"


def held_out_samples(t: int) -> str:
    """The evaluation's samples of the policy after t rounds, relative to the run."""
    return f"evaluation/samples-{t}.parquet"


def is_run(folder: Path) -> bool:
    """Whether a run was started in `folder`."""
    return (folder / RECIPE).is_file()


def is_finished(stages: Collection[str], rounds: int) -> bool:
    """Whether the finished `stages` (keys of the manifest) hold the last of `rounds` fits and the evaluation."""
    return {SUMMARY_STAGE, f"{round_folder(rounds - 1)}/fit"} <= set(stages)


def refuse_folder_of_runs(folder: Path, mark: str = RECIPE) -> None:
    """Raise ValueError where a folder, such as a study's, is neither a run nor a model, but holds runs.

    Names the first that has the file `mark`.
    """
    if any((folder / name).exists() for name in (RECIPE, "config.json", "adapter_config.json")):
        return
    runs = [file.parents[mark.count("/")] for file in sorted(folder.rglob(mark))]
    if runs:
        raise ValueError(f"{str(folder)!r} is no run's folder, but holds runs. Name one, such as {str(runs[0])!r}.")
