"""The sample stage of a recipe with an environment: episodes are played, and their turns become prompts with responses.

All tasks are played in step, a wave of questions at a time, so that a policy samples large batches; a killed stage goes
on after the last whole wave, and plays the earlier ones again on their stored replies. Replies of one role to one
prompt, wherever it came up, are siblings: in groups of K they are the responses of one training prompt, and their
rewards are the preferences between them. Leaves out: the rules of any game (`environments/`), pairs (`pair.py`).

    play_tasks(Episodes(policies, environment, players, 8, settings, seed, "rounds/000"), tasks, folder, progress)
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import REFERENCE, Draw, PolicyRef
from sparring.environments.environment import Ask, Compare, Replies, Reply, Verdicts, Wave, build_environment
from sparring.models.messages import PromptText, conversation
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.recipe.recipe import Recipe
from sparring.rounds.engines import held_engines
from sparring.rounds.environment_identity import environment_identity
from sparring.rounds.episode import Episode, Episodes, begin, endless, next_wave
from sparring.rounds.judge import SHARD, training_guard
from sparring.rounds.policies import Policies
from sparring.rounds.prepare import longest_prompt
from sparring.rounds.sample import DrawTask, sample_draw
from sparring.rounds.store import Counts, Made
from sparring.rounds.tables import EXAMPLES, NOTES, SAMPLES, TURNS, ExampleRow, Prompt, SampleRow
from sparring.rounds.turns import OWN, counts_of, notes_of, tables, verdict_counts
from sparring.runtime.files import read_table, write_table
from sparring.runtime.parts import find_part, keep_part
from sparring.runtime.progress import Progress

Waiting = tuple[Episode, Wave]
"""an episode with what it asked last"""


def play_tasks(
    how: Episodes, rows: Sequence[ExampleRow], trained: Sequence[str], files: Sequence[Path], progress: Progress
) -> dict[str, Any]:
    """Play every task and write the prompts, the samples and the turns to `files`; returns counts.

    `trained`: the roles whose replies become training prompts. A fourth file gets the notes, where they are kept.

    Raises:
        ValueError: the environment raised, asked without end, or did not give each reply its outcome; names the task.
        OracleError: too many comparisons failed.
    """
    prompts, samples, turns, *notes = files
    episodes = [begin(how, row) for row in rows]
    guard = None if how.oracle is None else training_guard(how.policies, how.oracle, progress)
    waiting = [(episode, wave) for episode in episodes if (wave := next_wave(how, episode, None)) is not None]
    # An oracle in memory beside the policy may be too much.
    holding = held_engines(how.policies) if guard is None else contextlib.nullcontext()
    with progress.task("play", len(episodes)) as advance, holding:
        advance(len(episodes) - len(waiting))
        for number in range(how.environment.most_waves):
            if not waiting:
                break
            before = len(waiting)
            answers = _answered(how, guard, waiting, number, samples.with_name("play.partial"), progress)
            pairs = zip(waiting, answers, strict=True)
            waiting = [(e, wave) for (e, _), answer in pairs if (wave := next_wave(how, e, answer)) is not None]
            advance(before - len(waiting))
    if waiting:
        raise endless(how, waiting[0][0])
    examples, responses, lines = tables(how, episodes, trained)
    write_table(prompts, examples, EXAMPLES)
    write_table(samples, responses, SAMPLES)
    write_table(turns, lines, TURNS)
    for file in notes:
        write_table(file, notes_of(how, episodes), NOTES)
    shutil.rmtree(samples.with_name("play.partial"), ignore_errors=True)
    judged = {} if guard is None else {"oracle": guard.identity, **verdict_counts(episodes)}
    return {**counts_of(episodes, lines, responses), **judged}


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


def try_environment(policies: Policies, recipe: Recipe, task: ExampleRow) -> tuple[int, int]:
    """Play one task on empty replies: what would stop the run later is said before any work.

    Returns how many comparisons the oracle would be asked in it, in training and when a policy is examined.

    Raises:
        ValueError: as `play_tasks`.
    """
    environment = build_environment(recipe.environment or {})
    players = dict.fromkeys(environment.roles, REFERENCE)
    settings = recipe.sampling, recipe.seed, "try", "try", longest_prompt(policies, recipe)
    drawn = max(draw.count for steps in recipe.steps() for step in steps for draw in step.draws())
    counts = (drawn, False), (recipe.evaluation.samples, True)
    hows = [Episodes(policies, environment, players, k, None, *settings, examines=exam) for k, exam in counts]
    training, examined = (_try(how, task) for how in hows)
    return training, examined


def _try(how: Episodes, task: ExampleRow) -> int:
    """The comparisons of the episode."""
    episode, answers = begin(how, task), None
    for _ in range(how.environment.most_waves + 1):
        wave = next_wave(how, episode, answers)
        if wave is None:
            return len(episode.verdicts)
        asks = [one for one in wave if isinstance(one, Ask)]
        replies = [[Reply("", True)] * (how.count if ask.count is None else ask.count) for ask in asks]
        episode.rows += replies  # type: ignore[arg-type]  # only their numbers are compared
        verdicts = [0.5] * len(wave) if _compares(wave) else []
        episode.verdicts += verdicts
        answers = verdicts or replies
    raise endless(how, episode)


def _compares(wave: Wave) -> bool:
    return any(isinstance(one, Compare) for one in wave)


def _answered(
    how: Episodes, guard: Guard | None, waiting: Sequence[Waiting], number: int, folder: Path, progress: Progress
) -> list[Replies | Verdicts]:
    """What every episode gets: replies to its questions, or the oracle's verdicts on its comparisons."""
    asking = [(episode, wave) for episode, wave in waiting if not _compares(wave)]
    comparing = [(episode, wave) for episode, wave in waiting if _compares(wave)]
    answers: dict[str, Replies | Verdicts] = {}
    replies = _sampled(how, asking, number, folder, progress)  # type: ignore[arg-type]  # `Ask` alone, as looked up
    for part, given in ((asking, replies), (comparing, _judged(guard, comparing, progress))):
        answers |= {episode.task.name: answer for (episode, _), answer in zip(part, given, strict=True)}
    return [answers[episode.task.name] for episode, _ in waiting]


def _judged(guard: Guard | None, comparing: Sequence[Waiting], progress: Progress) -> list[Verdicts]:
    """The verdicts on one wave of every episode; each episode keeps them. Asked in parts, each stored."""
    if not comparing:
        return []
    assert guard is not None
    waves = [[one for one in wave if isinstance(one, Compare)] for _, wave in comparing]
    asked = [[Comparison(PromptText(conversation(c.messages)), c.a, c.b) for c in wave] for wave in waves]
    guard.expect(one for part in asked for one in part)
    with progress.task("judge", len(asked)) as advance:
        for begin_at in range(0, len(asked), SHARD):
            part = asked[begin_at : begin_at + SHARD]
            found = iter(guard.judge([one for each in part for one in each]).tolist())
            for (episode, _), each in zip(comparing[begin_at:], part, strict=False):
                episode.verdicts += [None if math.isnan(p) else p for p in (next(found) for _ in each)]
            advance(len(part))
    return [episode.verdicts[len(episode.verdicts) - len(wave) :] for episode, wave in comparing]


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
