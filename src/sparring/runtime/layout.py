"""The files of a run, and whether it is finished: a contract on disk that users' scripts may rely on.

    runs/NAME/recipe.yaml            the recipe, with every default
              lock.json              versions, hashes of models and data, hardware, the day the run began
              manifest.json          an entry per finished stage: hashes of its inputs and outputs
              data/                  training and held-out examples
              collect/, teacher/     preference pairs or gold answers that were made once, where the recipe asks
              rounds/000/            samples, verdicts, pairs, anchors (.parquet), fit.jsonl, policy/
              rounds/000/half/       the same of another seat of that round (`half`, `base`)
              evaluation/            held-out samples, judged-T.json by evaluated policy, summary.json
              cache/                 verdicts as they came, people's votes
              progress.json          what it is doing now
              usage.jsonl            every call of a served model, with its tokens
              report.html

Leaves out: columns of the tables (`rounds/tables.py`), and writing them.

    round_folder(2).pairs  ->  "rounds/002/pairs.parquet"
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

RECIPE = "recipe.yaml"
LOCK = "lock.json"
RUN_LOCK = "run.lock"
"""held by the process that works on the run"""
MANIFEST = "manifest.json"
FIT_SETTINGS = "fit_settings.json"
"""whole `fit` sections by folder, of fits that were finished before their recipe's section changed"""
TRAIN = "data/train.parquet"
HELD_OUT = "data/held_out.parquet"
COLLECTED = "collect/train.parquet"
TAUGHT = "teacher/train.parquet"
VERDICT_CACHE = "cache/verdicts.jsonl"
"""the oracle's verdicts, so that nothing is asked twice"""
VOTES = "cache/votes.sqlite"
"""people's votes, where the oracle's section names no other place; in other folders beside the verdicts too"""
PROGRESS = "progress.json"
"""what the run is doing, for those who watch it; of no use to the run"""
USAGE = "usage.jsonl"
"""the run's calls of served models, with tokens and cost (`endpoints/usage.py`); of no use to the run"""
VLLM_LOG = "logs/vllm.log"
SUMMARY = "evaluation/summary.json"
REPORT = "report.html"
DATA_STAGE = "data"
TEACHER_STAGE = "teacher"
SUMMARY_STAGE = "evaluation/summary"
STOP_STAGE = "evaluation/stop"
"""the fact that evaluation.patience ended the training early; it has no file"""
StageName = Literal["sample", "judge", "pair", "freeze", "write", "anchor", "fit"]


class StepFolder(str):
    """The folder of one step (a round's, a seat's of a round, or the collection's), and its files, all relative to the
    run."""

    def __init__(self, name: str) -> None:
        self.samples = f"{name}/samples.parquet"
        """the responses that were drawn"""
        self.prompts = f"{name}/prompts.parquet"
        """the questions to which they reply, where an environment asked them"""
        self.turns = f"{name}/turns.parquet"
        """every reply of its episodes, with what it was worth"""
        self.notes = f"{name}/notes.parquet"
        """what the environment noted of each task up to this round, where it keeps notes"""
        self.verdicts = f"{name}/verdicts.parquet"
        """the oracle's preferences between them"""
        self.pairs = f"{name}/pairs.parquet"
        """the training pairs"""
        self.anchors = f"{name}/anchors.parquet"
        """log-probabilities of the pairs' responses"""
        self.fit_log = f"{name}/fit.jsonl"
        """one line of metrics per optimiser step"""
        self.fit_steps = f"{name}/fit.partial/steps.jsonl"
        """the same of a fit that goes on; a step that was done again stands there again"""
        self.policy = f"{name}/policy"
        """the trained policy's folder"""
        self.optimizer = f"{name}/optimizer"
        """the folder of the optimiser's moments at the end of the fit, where fit.keep_optimizer hands them on"""
        self.moments = f"{self.optimizer}/moments.safetensors"
        """those moments"""

    def stage(self, name: StageName) -> str:
        """The manifest's key of one of its stages."""
        return f"{self}/{name}"


COLLECTION = StepFolder("collect")


def round_folder(t: int, seat: str = "play") -> StepFolder:
    """The folder of a round's step."""
    return StepFolder(f"rounds/{t:03d}" if seat == "play" else f"rounds/{t:03d}/{seat}")


def previous(folder: StepFolder) -> StepFolder | None:
    """The folder of the same seat in the round before; None in the first."""
    _, number, *seat = folder.split("/")
    return round_folder(int(number) - 1, *seat) if int(number) else None


def title_of(key: str, rounds: int | None = None) -> str:
    """What people call the folder of a step or a stage of the manifest; of how many `rounds`, where that is given.

    rounds/000/fit -> "round 1  fit"; rounds/001/half, 3 -> "round 2/3 half"; evaluation/sample-2 -> "evaluation  sample
    policy 2".
    """
    first, *rest = key.split("/")
    if first == "rounds":
        number, *rest = rest
        seat = f" {rest.pop(0)}" if rest and rest[0] not in get_args(StageName) else ""
        first = f"round {int(number) + 1}{f'/{rounds}' if rounds else ''}{seat}"
    elif first == "evaluation" and rest:
        name, _, of = rest[0].partition("-")
        number, _, role = of.partition("-")
        if number.isdigit():
            of = f"{'policy ' + number if int(number) else 'start'}{f' as {role}' if role else ''}"
        rest = [f"{name} {of}".strip()]
    return "  ".join([first, *rest])


def verdict_files(root: Path, rounds: int) -> list[Path]:
    """The oracle's verdicts on training responses, every seat's, of the first `rounds` rounds of the run in `root`."""
    made = [file for t in range(rounds) for file in (root / round_folder(t)).glob("**/verdicts.parquet")]
    return sorted([*root.glob(COLLECTION.verdicts), *made])


def stage_name(key: str) -> str:
    """The kind of stage of a manifest's key: `fit` of rounds/000/fit, `measure` of evaluation/measure-2."""
    return key.rpartition("/")[2].partition("-")[0]


def evaluation_stage(name: Literal["sample", "measure", "ask", "judge"], of: int | str) -> str:
    """The manifest's key of an evaluation stage, of the policy after `of` rounds or the opponent of this name."""
    return f"evaluation/{name}-{of}"


def in_evaluation(key: str) -> bool:
    """Whether the stage of this key is one of the evaluation."""
    return key.startswith("evaluation/")


def held_out_samples(t: int, role: str | None = None) -> str:
    """Responses of the policy after t rounds to the held-out prompts; in one `role` of an environment."""
    return f"evaluation/samples-{_of(t, role)}.parquet"


def held_out_prompts(t: int, role: str | None = None) -> str:
    """The questions to which those responses reply, where an environment asked them."""
    return f"evaluation/prompts-{_of(t, role)}.parquet"


def held_out_turns(t: int, role: str | None = None) -> str:
    """Held-out episodes that the policy after t rounds played in every role, or only in one, against the start."""
    return f"evaluation/turns-{_of(t, role)}.parquet"


def _of(t: int, role: str | None) -> str:
    return str(t) if role is None else f"{t}-{role}"


def policy_measures(t: int) -> str:
    """Length, diversity and KL of those responses."""
    return f"evaluation/policy-{t}.json"


def judged_policy(t: int) -> str:
    """What the evaluation says of the policy after t rounds, where evaluation.every asks for it."""
    return f"evaluation/judged-{t}.json"


def evaluated_rounds(every: int, rounds: int) -> list[int]:
    """After how many rounds a run with evaluation.every evaluates: each `every`-th round, and the last."""
    return [t for t in range(1, rounds + 1) if t % every == 0 or t == rounds]


def opponent_answers(name: str) -> str:
    """An opponent's answers to the held-out prompts."""
    return f"evaluation/opponent-{name}.parquet"


def is_run(folder: Path) -> bool:
    """Whether a run was started in `folder`."""
    return (folder / RECIPE).is_file()


def is_finished(stages: Collection[str], rounds: int) -> bool:
    """Whether the finished `stages` (keys of the manifest) hold the last of `rounds` fits and the evaluation."""
    return {SUMMARY_STAGE, round_folder(rounds - 1).stage("fit")} <= set(stages)


def refuse_folder_of_runs(folder: Path, mark: str = RECIPE) -> None:
    """Raise ValueError where a folder, such as a study's, is no run and no model, but holds folders with a `mark`."""
    if any((folder / name).exists() for name in (RECIPE, "config.json", "adapter_config.json")):
        return
    runs = [file.parents[mark.count("/")] for file in sorted(folder.rglob(mark))]
    if runs:
        raise ValueError(f"{str(folder)!r} is no run's folder, but holds runs. Name one, such as {str(runs[0])!r}.")
