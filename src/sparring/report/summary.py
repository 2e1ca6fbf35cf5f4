"""The summary of a run: the plain data that the evaluation writes and the report shows.

Every value is JSON or an `Interval`, which the file holds as an object with `value`, `low` and `high`. A number that
could not be measured is null. Shares are in [0, 1]; intervals are 95 % intervals over prompts. Leaves out:
how anything is measured (`evaluation/`) and drawn (`figures.py`, `html.py`).

    load_summary(Path("runs/demo"))["headline"]["win_rate"].low
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from sparring.evaluation.best_policy import Best, EvaluatedPolicy, Stopped
from sparring.evaluation.intervals import CountedInterval, Interval, from_json
from sparring.runtime.files import read_object
from sparring.runtime.layout import REPORT, SUMMARY, refuse_folder_of_runs

FitRow = dict[str, float | None]
"""One optimiser step. Drawn when present: loss, margin, margin_target, accuracy,
chosen_vs_reference, rejected_vs_reference, chosen_vs_iterate, rejected_vs_iterate, grad_norm,
clipped (0 or 1), learning_rate, tokens_per_second; other keys are only named."""

Counts = dict[str, int]
"""How many, by reason."""


class AlgorithmCard(TypedDict):
    """The algorithm in words, as its `About` has it."""

    title: str
    paper: str
    """arXiv number, or a citation"""
    anchors: str
    samples: str
    pairing: str
    loss: str


class Lock(TypedDict):
    """What the run was made with."""

    versions: dict[str, str]
    hardware: dict[str, Any]
    weights: dict[str, str]
    """hash by policy: "0/play" is the start"""
    data: dict[str, Any]
    """hash by data set"""


class Headline(TypedDict):
    """Final policy against start, under the oracle of the recipe."""

    oracle: str
    win_rate: Interval
    mean_preference: Interval
    prompts: int
    """held-out prompts"""
    samples: int
    """fresh samples per prompt and policy"""


class Judgment(TypedDict):
    """Final policy against start under one oracle; the oracle of training is among them."""

    name: str
    identity: NotRequired[str]
    """absent in runs of older versions"""
    seen_in_training: bool
    win_rate: Interval
    """share of comparisons in which the final policy's response is preferred"""
    mean_preference: Interval
    """mean of P(final's response beats start's)"""
    failed: int
    """comparisons without a verdict"""
    about: str
    """one sentence: what this oracle looks at"""
    by_prompt: NotRequired[list[float | None]]
    """mean P(final beats start) of each held-out prompt; null where it failed; absent in runs of older versions"""
    answers_cut: NotRequired[int]
    """answers of both policies that it read only in part; absent where it cannot tell"""


class Rates(TypedDict):
    """Share of responses that pass, of both policies."""

    start: Interval
    final: Interval
    difference: Interval
    """final minus start, paired by prompt; in [-1, 1]"""
    prompts: int


class CheckRates(Rates):
    """Of held-out prompts that code can verify; a prompt's response passes when it obeys all of its rules."""

    by_rule: NotRequired[dict[str, Rates]]
    """each kind of rule by itself, most prompts first; absent in runs of older versions"""
    by_group: NotRequired[dict[str, Rates]]
    """where the data name groups of prompts"""


class Matrix(TypedDict):
    """Every stored policy against every other: entry [i][j] is row i over column j."""

    policies: list[str]
    """"start", "1", "2", ..., oldest first"""
    win_rate: list[list[float | None]]
    mean_preference: list[list[float | None]]


class PolicyMeasures(TypedDict):
    """Measures of one policy's held-out samples."""

    round: int
    """0 is the start; t is the policy that round t - 1 made"""
    tokens_mean: float | None
    tokens_p10: float | None
    tokens_p90: float | None
    finished_share: float | None
    """share of the samples that ended by themselves instead of being cut off"""
    distinct_trigrams: float | None
    """distinct word trigrams over all, across samples"""
    repeating_share: float | None
    """share of samples in which most trigrams repeat"""
    distinct_answers: float | None
    """share of samples that no other sample of their prompt equals"""
    kl_to_start: float | None
    """KL(policy || start), nats per response"""
    kl_standard_error: float | None
    """over prompts; null with one prompt"""


class FinishedStage(TypedDict):
    """One finished stage. A fact is a number or text; or counts by reason: `dropped_examples`, `dropped_pairs`."""

    seconds: float
    facts: dict[str, Any]


class FinishedRound(TypedDict):
    """One round's stages, in the order in which they ran."""

    round: int
    stages: dict[str, FinishedStage]


class Intransitivity(TypedDict):
    """How often judged triples of responses beat each other in a circle."""

    cyclic: CountedInterval
    """share of the triples, and how many there are (`count`)"""
    bradley_terry_distance: float | None
    """mean distance of the preferences from the best reward model's; null where no prompt was fully judged"""
    nash_support: float | None
    """mean number of samples in a prompt's Nash mixture; 1 where one sample beats all"""
    words: str
    """the measures, and what they mean for this run"""


class PoolGaps(TypedDict):
    """Empirical duality gaps against a pool: the policies, and the best of each one's samples."""

    members: list[str]
    gaps: dict[str, Interval]
    """by policy: 2 (P(strongest member beats it) - 1/2). For `value` the strongest member is chosen on the other half
    of the prompts, so that noise alone gives 0 on average; `low`, the highest lower end of the other members'
    intervals, which hold together in 95 %, is a lower bound of exploitability"""
    nash_mixture: dict[str, float]


class Sample(TypedDict):
    """One held-out prompt with responses of start and final policy, drawn alike."""

    prompt: str
    group: NotRequired[str | None]
    """what the data say that the prompt is one of; absent in runs of older versions"""
    check: dict[str, Any] | list[dict[str, Any]] | None
    """the prompt's instructions, one or several"""
    start: list[str]
    final: list[str]
    preference: float | None
    """mean P(final beats start) under the oracle of the recipe; null without one, or where it failed"""
    start_passes: list[bool] | None
    final_passes: list[bool] | None


class PolicyEpisodes(TypedDict):
    """Held-out episodes that one policy played with itself in an environment."""

    round: int
    rewards: dict[str, Interval]
    """by role, over tasks"""
    kinds: dict[str, int]
    """by role and kind, replies that were not the usual ("critic: unreadable")"""
    replies: dict[str, int]
    """by role"""
    measures: dict[str, float | Interval]
    """the environment's own, by name; a number in runs of older versions, and where no draw of the tasks changes it"""


class Opponent(TypedDict):
    """A served model that both policies played; the win rates are theirs against it."""

    name: str
    model: str
    refused: NotRequired[int]
    """held-out prompts that its server refused, which are left out; absent in runs of older versions"""
    start: Judgment
    final: Judgment


class Summary(TypedDict):
    """Everything the report shows."""

    name: str
    sparring_version: str
    finished: str
    """ISO 8601"""
    algorithm: AlgorithmCard
    recipe: dict[str, Any]
    """fully resolved"""
    fit_settings: dict[str, dict[str, Any]]
    """by round's folder, the fields of `fit` in which a fit made before a change differs from `recipe`"""
    lock: Lock
    headline: Headline | None
    """null when the recipe has no oracle"""
    judgments: list[Judgment]
    opponents: NotRequired[list[Opponent]]
    """one entry per oracle and opponent; absent in runs of older versions"""
    checks: CheckRates | None
    matrix: Matrix | None
    pool: PoolGaps | None
    policies: list[PolicyMeasures]
    rounds: list[FinishedRound]
    fit: list[list[FitRow]]
    """rows of each round's fit, in order"""
    intransitivity: Intransitivity | None
    episodes: NotRequired[list[PolicyEpisodes]]
    """every evaluated policy's, where an environment was played"""
    train_sets: NotRequired[Counts]
    """training examples by set, where the recipe mixes several"""
    dropped: dict[str, Counts]
    """what was left out before the first round, by place ("train", "held_out", also "teacher" or "collection" where
    there is one) and reason"""
    warnings: list[str]
    samples: list[Sample]
    """held-out prompts in the data's order, not picked"""
    evaluated: NotRequired[list[EvaluatedPolicy]]
    """with evaluation.every, the policies that were evaluated, in the order of their rounds"""
    best: NotRequired[Best | None]
    """the best of them; null where none has the figure that evaluation.best_by names"""
    stopped: NotRequired[Stopped]
    """present where evaluation.patience ended the training early"""
    going_on: NotRequired[int]
    """of a run that goes on: how many rounds it will have; `final` is then the newest evaluated policy"""


def read_summary(path: Path) -> Summary:
    """A run's stored summary. Raises ValueError naming the file when it is damaged."""
    return from_json(read_object(path, "recipe", "algorithm", "judgments", "policies", "rounds", "warnings", "samples"))


def load_summary(run: Path) -> Summary:
    """The summary of a finished run.

    Raises:
        ValueError: the run has none yet, or it is no run.
    """
    refuse_folder_of_runs(run)
    path = run / SUMMARY
    if not path.exists():
        newest = f" {run / REPORT} is about the policies that were evaluated so far." if (run / REPORT).exists() else ""
        raise ValueError(f"{run} has no {path.name} yet: finish it with `sparring run` first.{newest}")
    return read_summary(path)
