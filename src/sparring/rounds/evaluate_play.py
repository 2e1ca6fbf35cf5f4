"""The evaluate stage of a recipe with an environment: held-out episodes instead of answers to held-out prompts.

Every evaluated policy plays all trained roles; the last one also plays each role alone, the start all others, which
shows what the role gained. All meet the same tasks and the same chance. Leaves out: how episodes are
played (`play.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sparring.algorithms.algorithm import REFERENCE, PolicyRef
from sparring.environments.environment import Environment, Line, build_environment
from sparring.evaluation.intervals import SHARE, Interval, interval, percentiles
from sparring.recipe.recipe import Recipe
from sparring.rounds.environment_identity import environment_identity
from sparring.rounds.episode import Episodes
from sparring.rounds.measure import evaluated, measure, policy_warnings
from sparring.rounds.play import play_stage
from sparring.rounds.policies import Policies
from sparring.rounds.prepare import longest_prompt
from sparring.rounds.tables import ExampleRow, TurnRow
from sparring.rounds.turns import played
from sparring.runtime.errors import where_raised
from sparring.runtime.files import read_table
from sparring.runtime.layout import (
    evaluation_stage,
    held_out_prompts,
    held_out_samples,
    held_out_turns,
    policy_measures,
)
from sparring.runtime.progress import Progress

ByTask = dict[str, float]
"""a role's mean reward in each task"""
RESAMPLES = 500
"""of the tasks, for the intervals of an environment's own measures"""


class HeldOutEpisodes:
    """The evaluation's stages of one run."""

    def __init__(self, policies: Policies, recipe: Recipe, held_out: Sequence[ExampleRow], progress: Progress) -> None:
        self.policies, self.recipe, self.held_out, self.progress = policies, recipe, held_out, progress
        self.store = policies.store
        self.environment: Environment = build_environment(recipe.environment or {})
        self.final = PolicyRef(recipe.rounds)
        trained = recipe.trained_roles()
        self.alone = trained if len(trained) > 1 else ()
        """roles that are also played alone; where only one is trained, self-play is that"""

    def make(self, data: str) -> dict[str, str]:
        """Play and measure; `data` is the hash of the tasks' table; returns those of what was played."""
        inputs: dict[str, str] = {}
        for ref in evaluated(self.policies, self.recipe):
            inputs |= self._measured(ref, data)
        for role in self.alone:
            inputs |= self._play(self.final, role, data)
        return inputs

    def _measured(self, ref: PolicyRef, data: str) -> dict[str, str]:
        """A policy's self-play, and its measures."""
        made, t = self._play(ref, None, data), ref.round
        prompts: list[ExampleRow] = read_table(self.store.root / held_out_prompts(t))
        work = partial(measure, self.policies, self.recipe, ref, prompts, self.progress)
        inputs = {"policy": self.policies.hash(ref), **made}
        self.store.file(evaluation_stage("measure", t), policy_measures(t), inputs, work)
        return made

    def _play(self, ref: PolicyRef, role: str | None, data: str) -> dict[str, str]:
        """Held-out episodes of a policy in every trained role, or in one: its files and their hashes."""
        t, recipe = ref.round, self.recipe
        key = evaluation_stage("sample", t if role is None else f"{t}-{role}")
        own = recipe.trained_roles() if role is None else (role,)
        players = {name: ref if name in own else REFERENCE for name in self.environment.roles}
        names = (held_out_prompts, held_out_samples, held_out_turns)
        files = tuple(name(t, role) for name in names)
        settings = recipe.sampling, recipe.seed, f"evaluation/{t}/{role}", "evaluation"
        count, longest = recipe.evaluation.samples, longest_prompt(self.policies, recipe)
        how = Episodes(
            self.policies,
            self.environment,
            players,
            count,
            None,
            *settings,
            longest,
            examines=True,
            oracle=recipe.oracle,
        )
        counts = play_stage(how, key, files, {"data": data}, self.held_out, own, self.progress)
        if self.store.ran(key):
            self.progress.say(f"{ref.title}{f' as {role}' if role else ''}  {played(counts)}")
        return {file: self.store.output_hash(key, file) for file in files}

    # ---- summary ------------------------------------------------------------------------------

    def judged(self) -> dict[str, Any]:
        """The part of the summary that rewards and measures say."""
        refs = evaluated(self.policies, self.recipe)
        turns = {ref.round: self._turns(ref.round) for ref in refs}
        measured = [self.store.manifest[evaluation_stage("measure", ref.round)]["facts"] for ref in refs]
        gains = {role: gain for role in self.recipe.trained_roles() if (gain := self._gain(role, turns[0]))}
        unmet = [role for role in self.recipe.trained_roles() if role not in gains]
        tasks = [row["example"] for row in self.held_out]
        judgments = [self._judgment(role, gains[role], tasks) for role in gains]
        if len(gains) > 1:
            shared = {task: [gain[task] for gain in gains.values() if task in gain] for task in tasks}
            judgments.insert(0, self._judgment(None, {t: float(np.mean(g)) for t, g in shared.items() if g}, tasks))
        headline = self._headline(judgments[0]) if judgments else None
        return {
            "headline": headline,
            "judgments": judgments,
            "opponents": [],
            "checks": None,
            "matrix": None,
            "pool": None,
            "policies": measured,
            "intransitivity": None,
            "episodes": self._episodes(turns),
            "warnings": [
                *policy_warnings(measured, answers=False),
                *(f"No held-out task came to the role {role}." for role in unmet),
            ],
            "samples": self._samples(turns),
        }

    def _headline(self, judgment: Mapping[str, Any]) -> dict[str, Any]:
        numbers = {name: judgment[name] for name in ("win_rate", "mean_preference")}
        samples = self.recipe.evaluation.samples
        return {"oracle": judgment["name"], **numbers, "prompts": len(self.held_out), "samples": samples}

    def _turns(self, t: int, role: str | None = None) -> list[TurnRow]:
        return read_table(self.store.root / held_out_turns(t, role))

    def _gain(self, role: str, start: Sequence[TurnRow]) -> ByTask:
        """By task, the preference for the final policy's reward in a role over the start's, the start in all others."""
        before, after = (
            rewards_of(start, role),
            rewards_of(self._turns(self.final.round, role if self.alone else None), role),
        )
        low, high = self.environment.rewards
        return {task: 0.5 + (after[task] - before[task]) / (2 * (high - low)) for task in after.keys() & before.keys()}

    def _judgment(self, role: str | None, gain: Mapping[str, float], tasks: Sequence[str]) -> dict[str, Any]:
        values = [gain.get(task) for task in tasks]
        known = [value for value in values if value is not None]
        name = "in each role by itself" if role is None else f"as {role}"
        whose = "each role by itself, averaged" if role is None else f"the role {role}"
        about = f"rewards of {whose}: the final policy in it against the start in it, with the start in all other roles"
        return {
            "name": name,
            "identity": f"{environment_identity(self.environment)} {name}",
            "seen_in_training": True,
            "win_rate": interval([0.5 + 0.5 * np.sign(value - 0.5) for value in known], SHARE),
            "mean_preference": interval(known, SHARE),
            "failed": len(values) - len(known),
            "about": about,
            "by_prompt": values,
        }

    def _episodes(self, turns: Mapping[int, Sequence[TurnRow]]) -> list[dict[str, Any]]:
        """Of every policy's self-play: rewards by role, what happened, and the environment's own measures."""
        return [
            {
                "round": t,
                "rewards": {
                    role: interval(list(rewards_of(rows, role).values()), self.environment.rewards)
                    for role in self.environment.roles
                    if rewards_of(rows, role)
                },
                "kinds": dict(Counter(f"{row['role']}: {row['kind']}" for row in rows if row["kind"])),
                "replies": dict(Counter(row["role"] for row in rows)),
                "measures": self._measures(t, rows),
            }
            for t, rows in turns.items()
        ]

    def _measures(self, t: int, rows: Sequence[TurnRow]) -> dict[str, float | Interval]:
        def say(note: str) -> None:
            self.progress.say(f"note  {PolicyRef(t).title}: {note}")

        return measures_of(self.environment, [_lines(one) for one in by_task(rows).values()], say)

    def _samples(self, turns: Mapping[int, Sequence[TurnRow]]) -> list[dict[str, Any]]:
        """Held-out tasks in their order, with the episodes of the start's and the final policy's self-play."""
        start, final = by_task(turns[0]), by_task(turns[self.final.round])
        return [
            {
                "prompt": row["prompt"],
                "group": None,
                "check": None,
                "start": [transcript(start.get(row["example"], []))],
                "final": [transcript(final.get(row["example"], []))],
                "preference": None,
                "start_passes": None,
                "final_passes": None,
            }
            for row in self.held_out
        ]


def by_task(turns: Sequence[TurnRow]) -> dict[str, list[TurnRow]]:
    """The turns of each task, in order."""
    tasks: defaultdict[str, list[TurnRow]] = defaultdict(list)
    for turn in turns:
        tasks[turn["task"]].append(turn)
    return tasks


def rewards_of(turns: Sequence[TurnRow], role: str) -> ByTask:
    """By task, the mean reward of a role's replies."""
    rewards: defaultdict[str, list[float]] = defaultdict(list)
    for turn in turns:
        if turn["role"] == role and turn["reward"] is not None:
            rewards[turn["task"]].append(turn["reward"])
    return {task: float(np.mean(values)) for task, values in rewards.items()}


def measures_of(
    environment: Environment, episodes: Sequence[Sequence[Line]], say: Callable[[str], None]
) -> dict[str, float | Interval]:
    """The environment's own measures, with percentile bootstraps over tasks.

    Without an interval where no draw of the tasks changes the number, so that they say nothing of its error, and where
    the environment cannot measure some draw, which may lack any kind of episode: a note says so.
    """
    measured = environment.measure(episodes)
    if not measured or not episodes:
        return {**measured}
    draws = np.random.default_rng(0).integers(len(episodes), size=(RESAMPLES, len(episodes)))
    try:
        drawn = [environment.measure([episodes[i] for i in draw]) for draw in draws]
    except Exception as error:  # of the user's code, which has measured all of them
        say(f"no intervals of its measures, since `measure` raised on redrawn tasks: {where_raised(error)}")
        return {**measured}
    resampled = {name: np.array([one[name] for one in drawn if name in one]) for name in measured}
    return {
        name: percentiles(value, resampled[name]) if np.ptp(resampled[name]) > 0 else value
        for name, value in measured.items()
    }


def transcript(turns: Sequence[TurnRow]) -> str:
    """An episode as text, a reply a paragraph."""

    def paragraph(turn: TurnRow) -> str:
        worth = "not trained on" if turn["reward"] is None else f"{turn['reward']:+z.2f}"
        return f"{turn['role']} ({worth}{f', {kind}' if (kind := turn['kind']) else ''}): {turn['text'].strip()}"

    return "\n\n".join(map(paragraph, turns)) or "(left out)"


def _lines(turns: Sequence[TurnRow]) -> list[Line]:
    return [(turn["role"], turn["text"], turn["reward"], turn["kind"]) for turn in turns]
