"""How much a run may ask of a paid judge, and at what price. Leaves out: keeping to the budget (`endpoints/`).

Counts are upper bounds (a pairing is played with made-up answers); tokens assume the longest answers that the recipe
allows, so the truth is usually well below.

    print(judge_price(recipe, judge, True, prompts, held_out, judge.estimate(labels)))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparring.algorithms.algorithm import DataFacts, Draw, Reuse, Step
from sparring.algorithms.judged import PAIRINGS
from sparring.algorithms.pairing import Pairing, Wave
from sparring.endpoints.endpoint import CHARACTERS_PER_TOKEN
from sparring.endpoints.replies import Estimate
from sparring.oracles.abilities import Estimates
from sparring.oracles.oracle import Comparison
from sparring.recipe.recipe import Recipe
from sparring.rounds.pair import replay

SAMPLE = 50
"""prompts whose length stands for all"""


def judge_price(
    recipe: Recipe,
    judge: Estimates,
    trains: bool,
    prompts: Sequence[str],
    held_out: Sequence[str],
    labels: Estimate,
    by_task: tuple[int, int] | None = None,
) -> str:
    """Comparisons, requests, tokens and cost at most; `trains`: it judges the training too.

    `labels`: what the labelled pairs take that it judges first, where it is calibrated on any. `by_task`: comparisons
    in an environment's episode, in training and in the evaluation, of one that was tried; others may ask more.
    """
    if by_task is not None:
        training, evaluation = episode_comparisons(recipe, by_task, len(prompts), len(held_out))
    else:
        training = training_comparisons(recipe, len(prompts)) if trains else 0
        evaluation = evaluation_comparisons(recipe, len(held_out), trains)
    filler = "x" * int(recipe.sampling.max_new_tokens * CHARACTERS_PER_TOKEN)
    every = list(dict.fromkeys([*prompts, *held_out]))  # in which one training set stands after the other
    sample = [Comparison(prompt, filler, filler + "y") for prompt in every[:: math.ceil(len(every) / SAMPLE)]]
    price = judge.estimate(sample).times((training + evaluation) / len(sample)) + labels
    most = "at most" if by_task is None else "by one trial episode"
    return (
        f"judge  {judge.served_model}: {most} {training:,} comparisons in training and {evaluation:,} in "
        f"the evaluation{', and the labels first' if labels.requests + labels.kept else ''}: {price}"
    )


def training_comparisons(recipe: Recipe, examples: int) -> int:
    """At most this many comparisons are judged before the evaluation."""
    per_round = min(recipe.data.prompts_per_round or examples, examples)
    steps = [step for steps in recipe.steps(DataFacts(num_examples=examples)) for step in steps if step.judged]
    count = per_round * sum(asked(step.pairing, roles(step)) for step in steps)
    if (collect := recipe.data.collect) is not None:
        count += examples * asked(PAIRINGS[collect.pairing], ["own"] * collect.samples)
    return count


def episode_comparisons(recipe: Recipe, by_task: tuple[int, int], tasks: int, held_out: int) -> tuple[int, int]:
    """Comparisons in training and in the evaluation, if every episode has as many as the one that was tried."""
    played = min(recipe.data.prompts_per_round or tasks, tasks) * recipe.rounds
    alone = len(recipe.trained_roles()) if len(recipe.trained_roles()) > 1 else 0
    policies = 1 + len(recipe.evaluated_rounds()) + alone
    return played * by_task[0], min(recipe.evaluation.prompts or held_out, held_out) * policies * by_task[1]


def evaluation_comparisons(recipe: Recipe, prompts: int, trains: bool) -> int:
    """At most this many are judged: of all policies that play each other, or of evaluated ones against the start.

    Each opponent meets the start too, and every policy that is evaluated.
    """
    held, samples = min(recipe.evaluation.prompts or prompts, prompts), recipe.evaluation.samples
    evaluated, own = len(recipe.evaluated_rounds()), samples * (samples - 1) // 2
    meet = evaluated if recipe.evaluation.every is not None else 1
    with_opponents = held * len(recipe.evaluation.opponents) * (1 + meet) * samples**2
    if not trains:
        return held * samples**2 * meet + with_opponents
    if recipe.evaluation.every_iterate:
        players = samples * (1 + evaluated)
        return held * players * (players - 1) // 2 + with_opponents
    return held * (own + evaluated * (samples**2 + own)) + with_opponents


def roles(step: Step) -> list[str]:
    """The roles of a step's responses, one per response."""
    sources = () if isinstance(step.responses, Reuse) else step.responses
    return [s.role for s in sources for _ in range(s.count if isinstance(s, Draw) else 1)]


def asked(pairing: Pairing, roles: Sequence[str]) -> int:
    """Comparisons that a pairing asks about one prompt."""
    waves: list[int] = []

    def judge(wave: Wave) -> list[float]:
        waves.append(len(wave))
        return [0.9] * len(wave)

    replay(pairing, roles, 0, judge)
    return sum(waves)
