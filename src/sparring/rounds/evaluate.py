"""The evaluate stage: fresh held-out samples of every stored iterate, judged, measured, summarised.

Writes evaluation/samples-<round>.parquet and evaluation/summary.json, from which the report is made. Oracles
that training never saw are asked too, and every verdict is reported. With evaluation.every the same is done for each
evaluated policy while the run goes on, as if the run ended with it: evaluation/judged-<round>.json. Leaves out: when
(`run.py`), and the page (`report/`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from sparring.algorithms.algorithm import Draw, PolicyRef
from sparring.data.checks import instructions_of, passes
from sparring.evaluation.check_rates import Checked, check_rates
from sparring.evaluation.decided_by_rule import undecided
from sparring.evaluation.duality_gap import Pool, nash_mixture, play_pool, pool_gap
from sparring.evaluation.intervals import SHARE, from_json, interval
from sparring.evaluation.intransitivity import measure as measure_intransitivity
from sparring.evaluation.win_rates import Outcome, head_to_head, sample_pairs
from sparring.models.messages import PromptText
from sparring.oracles.abilities import Described, nested
from sparring.oracles.guard import Guard
from sparring.recipe.recipe import Recipe
from sparring.report.summary import Summary
from sparring.rounds.evaluate_play import HeldOutEpisodes
from sparring.rounds.judge import judge_ahead
from sparring.rounds.measure import evaluated, policy_warnings
from sparring.rounds.policies import Policies
from sparring.rounds.run_record import run_record
from sparring.rounds.sample import sample_draw
from sparring.rounds.so_far import so_far
from sparring.rounds.store import Counts
from sparring.rounds.tables import ExampleRow, iterate_verdicts, texts_by_example
from sparring.runtime.files import read_object, read_table, stream_rows, write_json
from sparring.runtime.layout import (
    HELD_OUT,
    VERDICT_CACHE,
    evaluation_stage,
    held_out_samples,
    held_out_turns,
    judged_policy,
    opponent_answers,
    verdict_files,
)
from sparring.runtime.progress import Progress

Texts = list[list[str]]


def sample_held_out(
    policies: Policies, recipe: Recipe, ref: PolicyRef, held_out: Sequence[ExampleRow], progress: Progress, target: Path
) -> Counts:
    """Write fresh samples of one policy on the held-out prompts, with noise that no other policy shares."""
    draw = Draw("own", recipe.evaluation.samples, {ref: 1.0})
    stream = f"evaluation/{ref.round}"
    sample_draw(policies, draw, held_out, recipe.sampling, recipe.seed, stream, target, progress)
    lengths = [len(row["token_ids"]) for row in stream_rows(target, ["token_ids"])]
    return {"responses": len(lengths), "tokens": sum(lengths)}


def _texts(file: Path, held_out: Sequence[ExampleRow]) -> Texts:
    """The texts of a file of held-out samples, one list per prompt."""
    texts = texts_by_example(file)
    return [texts[row["example"]] for row in held_out]


def _opponent_texts(file: Path, held_out: Sequence[ExampleRow]) -> Texts:
    """As `_texts`; an empty list for a prompt that the opponent's server refused."""
    texts = texts_by_example(file)
    return [texts.get(row["example"], []) for row in held_out]


def summarise(
    policies: Policies, recipe: Recipe, held_out: Sequence[ExampleRow], progress: Progress, target: Path
) -> Counts:
    """Judge, compare, and write evaluation/summary.json."""
    record = run_record(policies, recipe)  # first: an error in it would come after the judges are paid
    if recipe.evaluation.every is None:
        judged = judge_policies(policies, recipe, held_out, progress)
    else:
        judged = read_object(policies.store.root / judged_policy(recipe.rounds))
    write_json(target, {**record, **judged, **so_far(policies.store.manifest, recipe)})
    return {"headline": judged["headline"]}


def summary_so_far(policies: Policies, recipe: Recipe, rounds: int) -> Summary:
    """What the summary would be if the run ended with the recipe; it goes on for `rounds`."""
    manifest, judged = policies.store.manifest, read_object(policies.store.root / judged_policy(recipe.rounds))
    summary = {**run_record(policies, recipe), **judged, **so_far(manifest, recipe), "going_on": rounds}
    return cast(Summary, from_json(summary))


def judge_last(
    policies: Policies, recipe: Recipe, held_out: Sequence[ExampleRow], progress: Progress, target: Path
) -> Counts:
    """Judge the policy of the recipe's last round, write evaluation/judged-<round>.json, return the main figures."""
    judged = judge_policies(policies, recipe, held_out, progress)
    write_json(target, judged)
    first, checks, pool = (judged["judgments"] or [{}])[0], judged["checks"], judged["pool"]
    return {
        "oracle": first.get("name"),
        "win_rate": first.get("win_rate"),
        "mean_preference": first.get("mean_preference"),
        "checks": checks and checks["difference"],
        "gap": pool and pool["gaps"][str(recipe.rounds)],
    }


def judge_policies(
    policies: Policies, recipe: Recipe, held_out: Sequence[ExampleRow], progress: Progress
) -> dict[str, Any]:
    """The part of the summary that oracles, checks and measures say; the same however often a run was interrupted."""
    if recipe.environment is not None:
        return HeldOutEpisodes(policies, recipe, held_out, progress).judged()
    store, root = policies.store, policies.store.root
    rounds = [ref.round for ref in evaluated(policies, recipe)]
    prompts = [PromptText(row["messages"]) for row in held_out]
    playing = rounds if recipe.evaluation.every_iterate else [rounds[0], rounds[-1]]
    texts = {(str(t) if t else "start"): _texts(root / held_out_samples(t), held_out) for t in playing}
    names = [one.name for one in recipe.evaluation.opponents]
    answers = {name: _opponent_texts(root / opponent_answers(name), held_out) for name in names}
    start, final = texts["start"], texts[str(recipe.rounds)]
    players = {"start": start, "final": final}
    judgments: list[dict[str, Any]] = []
    opponents: list[dict[str, Any]] = []
    pool, preferences = None, None
    trained_by: set[str] = set()
    for section in [*([] if recipe.oracle is None else [recipe.oracle]), *recipe.evaluation.oracles]:
        guard = Guard(policies.oracle(section), store.path(VERDICT_CACHE))
        if section is recipe.oracle and recipe.asks_oracle():  # a jury's members were asked in training too
            trained_by = {inner.identity for inner, _ in nested(guard.oracle)}
        seen = guard.oracle.identity in trained_by
        if guard.damage and not judgments:  # one file for all
            progress.say(guard.damage)
        parts = partial(_asked, section is recipe.oracle, prompts, texts, players, answers)
        judge_ahead(guard, parts, section, policies, progress)
        outcome = head_to_head(prompts, final, start, guard)
        asked = undecided(sample_pairs(prompts, final, start))
        read = ((comparison.prompt, text) for comparison in asked for text in (comparison.a, comparison.b))
        about = _judgment(section, seen, outcome, guard)
        judgments.append({**about, "by_prompt": outcome.preferences_by_prompt} | guard.cut(read))
        for config in recipe.evaluation.opponents:
            games = {name: head_to_head(prompts, own, answers[config.name], guard) for name, own in players.items()}
            played = {name: _judgment(section, seen, game, guard) for name, game in games.items()}
            refused = sum(not texts for texts in answers[config.name])
            opponents.append({"name": config.name, "model": config.model, "refused": refused, **played})
        if section is recipe.oracle:
            pool = play_pool(prompts, texts, guard)
            preferences = outcome.preferences_by_prompt
    measured = [store.manifest[evaluation_stage("measure", t)]["facts"] for t in rounds]
    samples = _samples(held_out, start, final, preferences)
    return {
        "headline": None if recipe.oracle is None else _headline(judgments[0], len(prompts), recipe),
        "judgments": judgments,
        "opponents": opponents,
        "checks": _checks(held_out, start, final),
        "matrix": pool and pool.matrix(),
        "pool": pool and _pool_numbers(pool),
        "policies": measured,
        "intransitivity": _intransitivity(root, recipe.rounds),
        "warnings": [*policy_warnings(measured), *_cut_warnings(judgments)],
        "samples": samples,
    }


def _asked(
    pool: bool,
    prompts: Sequence[PromptText],
    texts: Mapping[str, Texts],
    players: Mapping[str, Texts],
    answers: Mapping[str, Texts],
    guard: Guard,
) -> None:
    """Ask the guard all that `judge_policies` asks it."""
    head_to_head(prompts, players["final"], players["start"], guard)
    for theirs in answers.values():
        for own in players.values():
            head_to_head(prompts, own, theirs, guard)
    if pool:
        play_pool(prompts, texts, guard)


def _judgment(section: dict[str, Any], seen: bool, outcome: Outcome, guard: Guard) -> dict[str, Any]:
    oracle = guard.oracle
    return {
        "name": oracle.title if isinstance(oracle, Described) else section["name"],
        "identity": guard.identity,
        "seen_in_training": seen,
        "win_rate": interval(outcome.wins, SHARE),
        "mean_preference": interval(outcome.preferences, SHARE),
        "failed": outcome.failed,
        "about": oracle.about if isinstance(oracle, Described) else guard.identity,
    }


def _headline(judgment: dict[str, Any], prompts: int, recipe: Recipe) -> dict[str, Any]:
    numbers = {name: judgment[name] for name in ("win_rate", "mean_preference")}
    return {"oracle": judgment["name"], **numbers, "prompts": prompts, "samples": recipe.evaluation.samples}


def _checks(held_out: Sequence[ExampleRow], start: Texts, final: Texts) -> dict[str, Any] | None:
    """Pass rates on prompts with a rule that code can verify."""
    return check_rates(
        [
            Checked(instructions_of(json.loads(row["check"] or "[]")), row.get("group"), before, after)
            for row, before, after in zip(held_out, start, final, strict=True)
        ]
    )


def _pool_numbers(pool: Pool) -> dict[str, Any]:
    """Empirical duality gap of every policy against the pool, and the pool's Nash mixture."""
    gaps = {name: pool_gap(pool, name) for name in pool.names[: pool.policies]}
    return {"members": list(pool.names), "gaps": gaps, "nash_mixture": nash_mixture(pool)}


def _intransitivity(root: Path, rounds: int) -> dict[str, Any] | None:
    """The oracle's cycles over all verdicts of training, every seat's, where whole triples were judged."""
    return measure_intransitivity(one for path in verdict_files(root, rounds) for one in iterate_verdicts(path))


def _cut_warnings(judgments: list[dict[str, Any]]) -> list[str]:
    return [
        f"“{j['name']}” read {j['answers_cut']} answers of the start and the final policy only in part: they are "
        "longer than it takes."
        for j in judgments
        if j.get("answers_cut")
    ]


def _samples(
    held_out: Sequence[ExampleRow], start: Texts, final: Texts, preferences: list[float | None] | None
) -> list[dict[str, Any]]:
    """Held-out prompts in their order, with all responses of the start and the final policy."""
    checks = [json.loads(row["check"]) if row["check"] else None for row in held_out]
    return [
        {
            "prompt": row["prompt"],
            "group": row.get("group"),
            "check": check,
            "start": before,
            "final": after,
            "preference": preference,
            "start_passes": check and [passes(check, text) for text in before],
            "final_passes": check and [passes(check, text) for text in after],
        }
        for row, check, before, after, preference in zip(
            held_out, checks, start, final, preferences or [None] * len(held_out), strict=True
        )
    ]


def stored_by_prompt(run: Path, round_: int) -> dict[str, list[str]]:
    """The answers that a run's evaluation stored of a policy, by prompt (its turns included).

    Raises:
        ValueError: the run played an environment, and stored episodes.
    """
    if (run / held_out_turns(round_)).exists():
        raise ValueError(
            f"{run} played an environment: its evaluation holds episodes, no answers to prompts. `sparring report` and "
            "`compare` show what its roles got."
        )
    held_out: list[ExampleRow] = read_table(run / HELD_OUT)
    prompts = {row["example"]: PromptText(row["messages"]) for row in held_out}
    stored = texts_by_example(run / held_out_samples(round_))
    return {prompts[example]: texts for example, texts in stored.items()}
