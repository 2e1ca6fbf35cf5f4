"""One episode while it is played: its questions are checked before they are asked, its outcomes before they count.

An environment that breaks a rule of the interface stops the run, and the error names the task. Leaves out: sampling
replies (`play.py`), what is stored of an episode (`turns.py`).
"""

from __future__ import annotations

import difflib
import json
import math
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparring.algorithms.algorithm import PolicyRef
from sparring.environments.environment import (
    Ask,
    Compare,
    Environment,
    Outcome,
    Play,
    Replies,
    Task,
    Verdicts,
)
from sparring.models.messages import conversation
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.policies import Policies
from sparring.rounds.tables import ExampleRow, SampleRow
from sparring.runtime.errors import where_raised
from sparring.runtime.randomness import noise_seed

Players = Mapping[str, PolicyRef]
"""who plays each role of the environment"""


@dataclass(frozen=True)
class Episodes:
    """How episodes are played."""

    policies: Policies
    environment: Environment
    players: Players
    count: int
    """K, replies to a question that does not say how many"""
    siblings: int | None
    """how many make a training prompt; None: as many as a question got, and K at least"""
    settings: SamplingConfig
    seed: int
    stream: str
    """separates the noise of episodes of one seed"""
    deals: str
    """separates the chance of the environment itself: the same for policies that are to meet the same tasks"""
    longest: int
    """tokens of a prompt: an episode that would ask with more is left out, and counted"""
    examines: bool = False
    """whether policies are evaluated, and not trained on it"""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """what earlier rounds noted, by task"""
    oracle: Mapping[str, Any] | None = None
    """the recipe's section of the oracle that comparisons are asked of"""


@dataclass
class Episode:
    """One task while it is played."""

    task: Task
    play: Play
    asks: list[Ask] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    """by question, its prompt's tokens"""
    taught: list[list[int]] = field(default_factory=list)
    """by question, the tokens of the prompt under which its replies are trained"""
    rows: list[list[SampleRow]] = field(default_factory=list)
    """by question, its replies"""
    verdicts: list[float | None] = field(default_factory=list)
    """of the oracle, on all comparisons so far"""
    outcomes: Sequence[Sequence[Outcome]] | None = None
    dropped: str = ""


def begin(how: Episodes, row: ExampleRow) -> Episode:
    """The episode of a row, before its first question."""
    checks = json.loads(row["check"] or "[]")
    rules, name = checks if isinstance(checks, list) else [checks], row["example"]
    task = Task(name, row["prompt"], rules, tuple(how.notes.get(name, ())))
    play = how.environment.examine if how.examines else how.environment.play
    episode = Episode(task, play(task, noise_seed(how.seed, how.deals, "task", name)))
    if not isinstance(episode.play, Generator):
        raise _fault(how, episode, f"its {play.__name__} has no yield. Write it such that it yields lists of Ask.")
    return episode


def next_wave(how: Episodes, episode: Episode, replies: Replies | Verdicts | None) -> list[Ask] | list[Compare] | None:
    """The episode's next questions, recorded in it with their prompts, or comparisons; None when it is over."""
    try:
        wave: list[Any] = list(next(episode.play) if replies is None else episode.play.send(replies))
    except StopIteration as stop:
        episode.outcomes = _checked(how, episode, stop.value)
        return None
    except Exception as error:
        raise _fault(how, episode, f"it raised {where_raised(error)}") from error
    comparisons = [one for one in wave if isinstance(one, Compare)]
    if comparisons:
        return _compared(how, episode, comparisons, len(wave))
    asks = [one for one in wave if not isinstance(one, Compare)]
    prompts = [_prompt(how, episode, ask) for ask in asks]
    taught = [
        ids if ask.taught is None else _prompt(how, episode, ask._replace(messages=ask.taught))
        for ask, ids in zip(asks, prompts, strict=True)
    ]
    if any(len(ids) > how.longest for ids in [*prompts, *taught]):
        episode.dropped = f"a question longer than {how.longest} tokens"
        episode.play.close()
        return None
    episode.asks += asks
    episode.prompts += prompts
    episode.taught += taught
    return asks


def endless(how: Episodes, episode: Episode) -> ValueError:
    """The error of an episode that does not end."""
    most = how.environment.most_waves
    return _fault(how, episode, f"still asked after {most} waves. Let it end, or raise its most_waves.")


def _fault(how: Episodes, episode: Episode, what: str) -> ValueError:
    name = type(how.environment).__name__
    return ValueError(f"environment {name}, task {episode.task.name} ({episode.task.prompt[:60]!r}): {what}")


def _compared(how: Episodes, episode: Episode, comparisons: list[Compare], asked: int) -> list[Compare]:
    """The comparisons of a wave that has nothing else, where an oracle was promised and given."""
    if len(comparisons) < asked:
        raise _fault(how, episode, "it asked a role and the oracle in one wave. Yield them one after the other.")
    if not how.environment.asks_oracle:
        raise _fault(how, episode, "it asked the oracle. Let its asks_oracle be true.")
    for one in comparisons:
        if not isinstance(one.a, str) or not isinstance(one.b, str):
            raise _fault(how, episode, f"it compared {one!r:.200}. Give messages and two texts.")
        try:
            conversation(one.messages)
        except ValueError as error:
            raise _fault(how, episode, f"its comparison cannot be asked: {error}") from error
    return comparisons


def _prompt(how: Episodes, episode: Episode, ask: Ask) -> list[int]:
    """The tokens of a question, which must be one."""
    if not isinstance(ask, Ask):
        raise _fault(how, episode, f"it asked {ask!r:.200}. Yield lists of Ask.")
    if ask.role not in how.players:
        near = difflib.get_close_matches(str(ask.role), how.players, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise _fault(how, episode, f"it asked the role {ask.role!r}, and its roles are {list(how.players)}.{meant}")
    if isinstance(ask.messages, str):
        raise _fault(how, episode, "it asked a text. Give messages: [{'role': 'user', 'content': the text}].")
    if ask.count is not None and not (type(ask.count) is int and ask.count >= 1):
        raise _fault(how, episode, f"it asked for {ask.count!r} replies. Give a whole number from 1 on, or None.")
    try:
        return how.policies.chat.prompt_ids(conversation(ask.messages))
    except ValueError as error:
        raise _fault(how, episode, f"its question to the role {ask.role} cannot be asked: {error}") from error


def _checked(how: Episodes, episode: Episode, outcomes: Any) -> Sequence[Sequence[Outcome]]:
    """The outcomes, if there is one for each reply, finite, in range, and zero-sum where that is promised."""
    shape = [len(rows) for rows in episode.rows]
    try:
        given = [[Outcome(*outcome) for outcome in group] for group in outcomes]
    except TypeError:
        raise _fault(how, episode, "its result is not a list of lists of Outcome.") from None
    if [len(group) for group in given] != shape:
        raise _fault(how, episode, f"it gave {[len(g) for g in given]} outcomes for {shape} replies, by question.")
    low, high = how.environment.rewards
    for ask, group in zip(episode.asks, given, strict=True):
        for outcome in group:
            if not isinstance(outcome.kind, str) or not isinstance(outcome.reward, float | int | None):
                raise _fault(how, episode, f"{outcome!r} is not a number or None, with a kind as text.")
            if outcome.reward is not None and not low <= outcome.reward <= high:  # NaN is not either
                raise _fault(
                    how,
                    episode,
                    f"the role {ask.role} gets a reward of {outcome.reward}, outside {low:g} to {high:g}. Return None "
                    "to leave a reply out, or widen its `rewards`.",
                )
    if how.environment.zero_sum:
        _check_sum(how, episode, given)
    return given


def _check_sum(how: Episodes, episode: Episode, outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Both roles' mean rewards add up to nothing."""
    by_role: defaultdict[str, list[float]] = defaultdict(list)
    for ask, group in zip(episode.asks, outcomes, strict=True):
        by_role[ask.role] += [o.reward for o in group if o.reward is not None]
    means = {role: float(np.mean(values)) for role, values in by_role.items() if values}
    if len(means) == len(how.environment.roles) and not math.isclose(sum(means.values()), 0.0, abs_tol=1e-6):
        raise _fault(how, episode, f"rewards {means} do not add up to 0, though it says zero_sum.")
