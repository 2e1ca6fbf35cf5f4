"""The sample stage of a recipe with an environment: episodes are played, and their turns become prompts with responses.

All tasks are played in step, a wave of questions at a time, so that a policy samples large batches; a killed stage goes
on after the last whole wave, and plays the earlier ones again on their stored replies. Replies of one role to one
prompt, wherever it came up, are siblings: in groups of K they are the responses of one training prompt, and their
rewards are the preferences between them. Leaves out: the rules of any game (`environments/`), pairs (`pair.py`).

    play_tasks(Episodes(policies, environment, players, 8, settings, seed, "rounds/000"), tasks, folder, progress)
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparring.algorithms.algorithm import REFERENCE, Draw, PolicyRef
from sparring.data.text import repeating_share
from sparring.environments.environment import (
    SHIPPED,
    Ask,
    Environment,
    Outcome,
    Play,
    Reply,
    Task,
    build_environment,
)
from sparring.models.messages import conversation, prompt_text
from sparring.oracles.code_identity import code_identity
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.policies import Policies
from sparring.rounds.prepare import longest_prompt
from sparring.rounds.sample import DrawTask, sample_draw
from sparring.rounds.store import Counts, Made, Store
from sparring.rounds.tables import EXAMPLES, SAMPLES, TURNS, ExampleRow, Prompt, SampleRow, TurnRow
from sparring.runtime.files import read_table, write_table
from sparring.runtime.parts import find_part, keep_part
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed
from sparring.runtime.words import counted

OWN = "own"
"""the role, in the algorithm's sense, of every response that is trained on"""
Players = Mapping[str, PolicyRef]
"""who plays each role of the environment"""


def environment_identity(environment: Environment) -> str:
    """Its class, the fields that are set, and of one's own class a hash of what decides an episode.

    `measure` and `about` decide none. A shipped class is known by its name: what it does is not changed in silence.
    """
    kind = type(environment)
    fields = environment.model_dump_json(exclude_defaults=True)
    if f"{kind.__module__}:{kind.__qualname__}" in SHIPPED.values():
        return f"{kind.__qualname__}({fields})"
    known = {*Environment.__mro__, object}
    own = [klass for klass in kind.__mro__ if klass not in known]
    parts = [_code(value) for klass in own for name, value in sorted(vars(klass).items()) if _decides(name)]
    return f"{kind.__qualname__}({fields};code={hashlib.sha256(repr(parts).encode()).hexdigest()[:16]})"


def _decides(name: str) -> bool:
    return name not in ("measure", "about") and not name.startswith(("__", "_abc_", "model_"))


def _code(value: Any) -> str:
    """A hash of a method's code, or of a class variable: text would differ from process to process for a set."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return code_identity(function if inspect.isfunction(function) else lambda: value)


def refuse_other_environment(store: Store, environment: Environment) -> None:
    """Raise a ValueError where the run's earlier episodes were played in another environment."""
    now = environment_identity(environment)
    for key, entry in store.manifest.items():
        before = entry["inputs"].get("environment", now)
        if before != now:
            raise ValueError(
                f"environment: {key} was played in {before}, and this is {now}: episodes of two environments do not go "
                "into one run. Undo the change, or start anew with another --out."
            )


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


@dataclass
class Episode:
    """One task while it is played."""

    task: Task
    play: Play
    asks: list[Ask] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    """by question, its prompt's tokens"""
    rows: list[list[SampleRow]] = field(default_factory=list)
    """by question, its replies"""
    outcomes: Sequence[Sequence[Outcome]] | None = None
    dropped: str = ""


def play_tasks(
    how: Episodes, rows: Sequence[ExampleRow], trained: Sequence[str], files: Sequence[Path], progress: Progress
) -> dict[str, Any]:
    """Play every task and write the prompts, the samples and the turns to `files`; returns counts.

    `trained`: the roles whose replies become training prompts.

    Raises:
        ValueError: the environment raised, asked without end, or did not give each reply its outcome; names the task.
    """
    prompts, samples, turns = files
    episodes = [_begun(how, row) for row in rows]
    waiting = [(episode, wave) for episode in episodes if (wave := _next(how, episode, None)) is not None]
    with progress.task("play", len(episodes)) as advance:
        advance(len(episodes) - len(waiting))
        for number in range(how.environment.most_waves):
            if not waiting:
                break
            before = len(waiting)
            replies = _sampled(how, waiting, number, samples.with_name("play.partial"), progress)
            pairs = zip(waiting, replies, strict=True)
            waiting = [(e, wave) for (e, _), reply in pairs if (wave := _next(how, e, reply)) is not None]
            advance(before - len(waiting))
    if waiting:
        raise _endless(how, waiting[0][0])
    examples, responses, lines = _tables(how, episodes, trained)
    write_table(prompts, examples, EXAMPLES)
    write_table(samples, responses, SAMPLES)
    write_table(turns, lines, TURNS)
    shutil.rmtree(samples.with_name("play.partial"), ignore_errors=True)
    return _counts(episodes, lines, responses)


def play_stage(
    how: Episodes,
    key: str,
    files: Sequence[str],
    inputs: dict[str, str],
    rows: Sequence[ExampleRow],
    trained: Sequence[str],
    progress: Progress,
) -> Counts:
    """Play the tasks as the stage `key` of the run, unless it is finished; returns its counts.

    `files`: as `play_tasks`, relative to the run; adds to `inputs` the environment and who plays which role.
    """
    store = how.policies.store
    inputs |= {f"plays {role}": how.policies.hash(player) for role, player in how.players.items()}
    inputs["environment"] = environment_identity(how.environment)

    def work() -> Made:
        return Made(tuple(files), play_tasks(how, rows, trained, [store.path(file) for file in files], progress))

    return store.stage(key, inputs, work)


def try_environment(policies: Policies, recipe: Recipe, task: ExampleRow) -> None:
    """Play one task on empty replies: what would stop the run later is said before any work.

    Raises:
        ValueError: as `play_tasks`.
    """
    environment = build_environment(recipe.environment or {})
    players = dict.fromkeys(environment.roles, REFERENCE)
    settings = recipe.sampling, recipe.seed, "try", "try", longest_prompt(policies, recipe)
    how = Episodes(policies, environment, players, 1, None, *settings)
    episode, replies = _begun(how, task), None
    for _ in range(how.environment.most_waves + 1):
        wave = _next(how, episode, replies)
        if wave is None:
            return
        replies = [[Reply("", True)] * (how.count if ask.count is None else ask.count) for ask in wave]
        episode.rows += replies  # type: ignore[arg-type]  # only their numbers are compared
    raise _endless(how, episode)


def _endless(how: Episodes, episode: Episode) -> ValueError:
    most = how.environment.most_waves
    return _fault(how, episode, f"still asked after {most} waves. Let it end, or raise its most_waves.")


def _begun(how: Episodes, row: ExampleRow) -> Episode:
    checks = json.loads(row["check"] or "[]")
    task = Task(row["example"], row["prompt"], checks if isinstance(checks, list) else [checks])
    return Episode(task, how.environment.play(task, noise_seed(how.seed, how.deals, "task", task.name)))


def _fault(how: Episodes, episode: Episode, what: str) -> ValueError:
    name = type(how.environment).__name__
    return ValueError(f"environment {name}, task {episode.task.name} ({episode.task.prompt[:60]!r}): {what}")


def _next(how: Episodes, episode: Episode, replies: Sequence[Sequence[Reply]] | None) -> list[Ask] | None:
    """The episode's next questions, recorded in it with their prompts; None when it is over."""
    try:
        wave = list(next(episode.play) if replies is None else episode.play.send(replies))
    except StopIteration as stop:
        episode.outcomes = _checked(how, episode, stop.value)
        return None
    except Exception as error:
        raise _fault(how, episode, f"it raised {type(error).__name__}: {error}") from error
    prompts = [_prompt(how, episode, ask) for ask in wave]
    if any(len(ids) > how.longest for ids in prompts):
        episode.dropped = f"a question longer than {how.longest} tokens"
        episode.play.close()
        return None
    episode.asks += wave
    episode.prompts += prompts
    return wave


def _prompt(how: Episodes, episode: Episode, ask: Ask) -> list[int]:
    """The tokens of a question, which must be one."""
    if not isinstance(ask, Ask) or ask.role not in how.players:
        raise _fault(how, episode, f"it asked {ask!r:.200}. Yield lists of Ask, of the roles {list(how.players)}.")
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
    for group in given:
        for outcome in group:
            if not isinstance(outcome.kind, str) or not isinstance(outcome.reward, float | int | None):
                raise _fault(how, episode, f"{outcome!r} is not a number or None, with a kind as text.")
            if outcome.reward is not None and not low <= outcome.reward <= high:  # NaN is not either
                raise _fault(how, episode, f"a reward of {outcome.reward} is not within {low:g} to {high:g} (rewards).")
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


def _sampled(
    how: Episodes, waiting: Sequence[tuple[Episode, Sequence[Ask]]], number: int, folder: Path, progress: Progress
) -> list[list[list[Reply]]]:
    """The replies to one wave of every episode; each episode keeps the rows."""
    batches: defaultdict[tuple[PolicyRef, int], list[Prompt]] = defaultdict(list)
    for episode, wave in waiting:
        for place, ask in zip(_places(episode, wave), wave, strict=True):
            count = how.count if ask.count is None else ask.count
            name = f"{episode.task.name}/{place}"
            batches[how.players[ask.role], count].append({"example": name, "prompt_ids": episode.prompts[place]})
    drawn: defaultdict[str, list[SampleRow]] = defaultdict(list)
    for (ref, count), prompts in batches.items():
        file = folder / f"{number:03d}-{ref.round}-{ref.seat}-{count}.parquet"
        draw = how.policies, Draw(OWN, count, {ref: 1.0}), prompts
        for row in _drawn(DrawTask(*draw, how.settings, how.seed, f"{how.stream}/{number}", file), progress):
            drawn[row["example"]].append(row)
    for episode, wave in waiting:
        names = [f"{episode.task.name}/{place}" for place in _places(episode, wave)]
        episode.rows += [sorted(drawn[name], key=lambda row: row["index"]) for name in names]
    return [[[_reply(row) for row in e.rows[i]] for i in _places(e, wave)] for e, wave in waiting]


def _places(episode: Episode, wave: Sequence[Ask]) -> range:
    """Where the newest wave stands among the episode's questions."""
    return range(len(episode.asks) - len(wave), len(episode.asks))


def _drawn(task: DrawTask, progress: Progress) -> list[SampleRow]:
    """The responses of one policy to a wave, kept until the stage is over."""
    weights = [task.policies.hash(ref) for ref in task.draw.policies]
    # Neither the engine nor its batches: a smaller batch is what helps where memory ran out.
    settings = task.settings.model_dump_json(include={"temperature", "top_p", "max_new_tokens", "precision"})
    prompts = [(prompt["example"], prompt["prompt_ids"]) for prompt in task.examples]
    content = repr([weights, task.draw.count, settings, prompts, task.seed, task.stream])
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    part = task.target.with_stem(f"{task.target.stem}-{digest}")
    draw = task.policies, task.draw, task.examples, task.settings, task.seed, task.stream
    return read_table(find_part(part, progress.say) or keep_part(part, lambda file: sample_draw(*draw, file, progress)))


def _reply(row: SampleRow) -> Reply:
    return Reply(row["text"], row["finish_reason"] == "stop")


def _tables(
    how: Episodes, episodes: Sequence[Episode], trained: Sequence[str]
) -> tuple[list[ExampleRow], list[SampleRow], list[TurnRow]]:
    """Training prompts with their samples, and every turn of every whole episode."""
    groups = _Groups(how.siblings, how.count)
    turns: list[TurnRow] = []
    for episode in episodes:
        for place, (ask, outcomes) in enumerate(zip(episode.asks, episode.outcomes or (), strict=False)):
            for row, outcome in zip(episode.rows[place], outcomes, strict=True):
                used = ask.role in trained and outcome.reward is not None
                example, index = groups.add(ask, episode.prompts[place], row) if used else (None, None)
                turns.append(
                    {
                        "task": episode.task.name,
                        "turn": place,
                        "reply": row["index"],
                        "role": ask.role,
                        "policy": row["policy"],
                        "text": row["text"],
                        "reward": outcome.reward,
                        "kind": outcome.kind,
                        "example": example,
                        "index": index,
                    }
                )
    return groups.examples, groups.samples, turns


class _Groups:
    """Siblings in groups, in the order in which they came up."""

    def __init__(self, size: int | None, count: int) -> None:
        self.size, self.count = size, count
        self.examples: list[ExampleRow] = []
        self.samples: list[SampleRow] = []
        self._open: dict[tuple[str, tuple[int, ...]], tuple[str, int]] = {}
        self._made: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def add(self, ask: Ask, prompt_ids: list[int], row: SampleRow) -> tuple[str, int]:
        """The reply's training prompt, and its place there."""
        key = ask.role, tuple(prompt_ids)
        size = max(self.count, ask.count or 1) if self.size is None else self.size
        example, index = self._open.get(key, ("", size))
        if index >= size:
            example, index = self._begin(ask, key), 0
        self.samples.append({**row, "example": example, "index": index, "role": OWN})
        self._open[key] = example, index + 1
        return example, index

    def _begin(self, ask: Ask, key: tuple[str, tuple[int, ...]]) -> str:
        name = f"{ask.role}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}-{self._made[key]}"
        self._made[key] += 1
        messages: list[Any] = [dict(message) for message in ask.messages]
        self.examples.append(
            {
                "example": name,
                "messages": messages,
                "prompt": prompt_text(messages),
                "prompt_ids": list(key[1]),
                "responses": [],
                "check": None,
                "group": ask.role,
            }
        )
        return name


def _counts(episodes: Sequence[Episode], turns: Sequence[TurnRow], responses: Sequence[SampleRow]) -> dict[str, Any]:
    """Counts of the stage; rewards are means by role."""
    texts = [turn["text"] for turn in turns]
    by_role: defaultdict[str, list[float]] = defaultdict(list)
    for turn in turns:
        if turn["reward"] is not None:
            by_role[turn["role"]].append(turn["reward"])
    return {
        "tasks": sum(not episode.dropped for episode in episodes),
        "dropped_tasks": dict(Counter(episode.dropped for episode in episodes if episode.dropped)),
        "turns": len(turns),
        "responses": len(responses),
        "tokens": sum(len(row["token_ids"]) for episode in episodes for rows in episode.rows for row in rows),
        "empty": sum(not text.strip() for text in texts),
        "cut_off": sum(row["finish_reason"] == "length" for e in episodes for rows in e.rows for row in rows),
        "repeating_share": repeating_share(texts),
        "rewards": {role: float(np.mean(values)) for role, values in by_role.items()},
        "kinds": dict(Counter(f"{turn['role']}: {turn['kind']}" for turn in turns if turn["kind"])),
    }


def played(counts: Mapping[str, Any]) -> str:
    """The counts in a line."""
    rewards = ", ".join(f"{role} {reward:+.3f}" for role, reward in counts["rewards"].items())
    kinds = "".join(f", {count} x {kind}" for kind, count in counts["kinds"].items())
    drops = "".join(f", dropped {counted(count, 'task')}: {why}" for why, count in counts["dropped_tasks"].items())
    replies = counted(counts["turns"], "reply", "replies")
    return f"play: {counted(counts['tasks'], 'task')}, {replies}; {rewards}{kinds}{drops}"
