"""The evaluate stage: fresh held-out samples of every stored iterate, judged, measured, summarised.

Writes evaluation/samples-<round>.parquet and evaluation/summary.json, from which the report is made. Oracles
that training never saw are asked too, and every verdict is reported. Leaves out: the page (`report/`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparring.algorithms.algorithm import REFERENCE, Draw, PolicyRef
from sparring.data.checks import instructions_of, passes
from sparring.data.text import distinct_trigrams, repeating_share
from sparring.evaluation.check_rates import Checked, check_rates
from sparring.evaluation.decided_by_rule import undecided
from sparring.evaluation.duality_gap import Pool, nash_mixture, play_pool, pool_gap
from sparring.evaluation.intervals import SHARE, interval
from sparring.evaluation.intransitivity import measure as measure_intransitivity
from sparring.evaluation.win_rates import Outcome, head_to_head, sample_pairs
from sparring.models.messages import PromptText
from sparring.oracles.abilities import Described, nested
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import FitConfig
from sparring.rounds.anchor import policy_logps
from sparring.rounds.policies import Policies
from sparring.rounds.run_record import run_record
from sparring.rounds.sample import MOST_CUT, sample_draw
from sparring.rounds.store import Counts
from sparring.rounds.tables import ExampleRow, SampleRow, iterate_verdicts, texts_by_example
from sparring.runtime.files import read_table, write_json
from sparring.runtime.layout import (
    HELD_OUT,
    VERDICT_CACHE,
    evaluation_stage,
    held_out_samples,
    opponent_answers,
    verdict_files,
)
from sparring.runtime.progress import Progress
from sparring.training.packing import Rollout

Texts = list[list[str]]


def evaluated(policies: Policies, recipe: Recipe) -> list[PolicyRef]:
    """The policies that are evaluated: the start, the last, and all that are stored between them."""
    last = PolicyRef(recipe.rounds)
    between = [PolicyRef(t) for t in range(1, recipe.rounds)] if recipe.evaluation.every_iterate else []
    return [REFERENCE, *(ref for ref in between if policies.exists(ref)), last]


def sample_held_out(
    policies: Policies, recipe: Recipe, ref: PolicyRef, held_out: Sequence[ExampleRow], progress: Progress, target: Path
) -> Counts:
    """Write fresh samples of one policy on the held-out prompts, with noise that no other policy shares."""
    draw = Draw("own", recipe.evaluation.samples, {ref: 1.0})
    stream = f"evaluation/{ref.round}"
    rows = sample_draw(policies, draw, held_out, recipe.sampling, recipe.seed, stream, target, progress)
    return {"responses": len(rows), "tokens": sum(len(r["token_ids"]) for r in rows)}


def measure(
    policies: Policies, recipe: Recipe, ref: PolicyRef, held_out: Sequence[ExampleRow], progress: Progress, target: Path
) -> Counts:
    """Write length, finishing, diversity and KL to the start of one policy's held-out samples."""
    rows: list[SampleRow] = read_table(policies.store.root / held_out_samples(ref.round))
    texts, lengths = [row["text"] for row in rows], [len(row["token_ids"]) for row in rows]
    kl, error = _kl_to_start(policies, recipe.fit, ref, held_out, rows, progress)
    measures = {
        "round": ref.round,
        "tokens_mean": float(np.mean(lengths)),
        "tokens_p10": float(np.quantile(lengths, 0.1)),
        "tokens_p90": float(np.quantile(lengths, 0.9)),
        "finished_share": float(np.mean([row["finish_reason"] == "stop" for row in rows])),
        "empty_share": float(np.mean([not text.strip() for text in texts])),
        "distinct_trigrams": float(np.mean([distinct_trigrams(text) for text in texts])),
        "repeating_share": repeating_share(texts),
        "distinct_answers": _distinct_answers(rows),
        "same_opening": _commonest_opening(texts),
        "kl_to_start": kl,
        "kl_standard_error": error,
    }
    write_json(target, measures)
    return measures


def _distinct_answers(rows: Sequence[SampleRow]) -> float:
    """Share of responses that no other response to their prompt equals."""
    counts = Counter((row["example"], row["text"].strip()) for row in rows)
    return sum(count for count in counts.values() if count == 1) / len(rows)


def _commonest_opening(texts: Sequence[str]) -> float:
    """Share of responses that begin with the commonest three words: near 1 means a template."""
    openings = Counter(" ".join(text.split()[:3]).lower() for text in texts)
    return openings.most_common(1)[0][1] / len(texts)


def _kl_to_start(
    policies: Policies,
    fit: FitConfig,
    ref: PolicyRef,
    held_out: Sequence[ExampleRow],
    rows: Sequence[SampleRow],
    progress: Progress,
) -> tuple[float, float | None]:
    """KL(policy || start) in nats per response on the policy's own samples, and its standard error over prompts.

    Unbiased where evaluation samples from the policy itself: at temperature 1 and top_p 1.
    """
    if policies.hash(ref) == policies.base_hash:
        return 0.0, 0.0
    ids = {row["example"]: row["prompt_ids"] for row in held_out}
    responses: dict[str, list[list[int]]] = {}
    for row in rows:
        responses.setdefault(row["example"], []).append(row["token_ids"])
    rollouts = [Rollout(ids[example], tokens) for example, tokens in responses.items()]
    title = f"KL of {ref.title} to the start, under"
    logps, start_logps = (
        policy_logps(policies, who, rollouts, fit, f"{title} {who.title}", progress) for who in (ref, REFERENCE)
    )
    # Prompts are the independent unit, as for win rates; every prompt has the same number of responses.
    ratios = [float(np.mean(np.subtract(own, start))) for own, start in zip(logps, start_logps, strict=True)]
    error = float(np.std(ratios, ddof=1) / math.sqrt(len(ratios))) if len(ratios) > 1 else None
    return float(np.mean(ratios)), error


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
    store, root = policies.store, policies.store.root
    rounds = [ref.round for ref in evaluated(policies, recipe)]
    prompts = [PromptText(row["messages"]) for row in held_out]
    texts = {(str(t) if t else "start"): _texts(root / held_out_samples(t), held_out) for t in rounds}
    names = [one.name for one in recipe.evaluation.opponents]
    answers = {name: _opponent_texts(root / opponent_answers(name), held_out) for name in names}
    start, final = texts["start"], texts[str(recipe.rounds)]
    players = {"start": start, "final": final}
    judgments: list[dict[str, Any]] = []
    opponents: list[dict[str, Any]] = []
    pool, preferences = None, None
    trained_by: set[str] = set()
    for section in [*([] if recipe.oracle is None else [recipe.oracle]), *recipe.evaluation.oracles]:
        guard = Guard(build_oracle(section, str(policies.base)), store.path(VERDICT_CACHE))
        if section is recipe.oracle and recipe.asks_oracle():  # a jury's members were asked in training too
            trained_by = {inner.identity for inner, _ in nested(guard.oracle)}
        seen = guard.oracle.identity in trained_by
        if guard.damage and not judgments:  # one file for all
            progress.say(guard.damage)
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
    summary = {
        **record,
        "headline": None if recipe.oracle is None else _headline(judgments[0], len(prompts), recipe),
        "judgments": judgments,
        "opponents": opponents,
        "checks": _checks(held_out, start, final),
        "matrix": pool and pool.matrix(),
        "pool": pool and _pool_numbers(pool),
        "policies": measured,
        "intransitivity": _intransitivity(root),
        "warnings": [*_warnings(measured), *_cut_warnings(judgments)],
        "samples": samples,
    }
    write_json(target, summary)
    return {"headline": summary["headline"]}


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


def _intransitivity(root: Path) -> dict[str, Any] | None:
    """The oracle's cycles over all verdicts of training, every seat's, where whole triples were judged."""
    return measure_intransitivity(one for path in verdict_files(root) for one in iterate_verdicts(path))


def _warnings(measured: list[dict[str, Any]]) -> list[str]:
    """Signs that the oracle was gamed, or that answers had no room, in words."""
    start, final = measured[0], measured[-1]
    warnings = []
    before, after = start["tokens_mean"], final["tokens_mean"]
    if not 0.5 * before <= after <= 1.5 * before:
        verb = "shrank" if after < before else "grew"
        warnings.append(f"Answers {verb} from {before:.0f} to {after:.0f} tokens.")
    if (cut_off := 1 - final["finished_share"]) > MOST_CUT:
        warnings.append(
            f"{cut_off:.0%} of the final policy's answers were cut off before they ended: judges read beginnings. "
            "Raise sampling.max_new_tokens, in a run of its own."
        )
    if final["repeating_share"] > max(0.1, 2 * start["repeating_share"]):
        warnings.append(f"{final['repeating_share']:.0%} of the answers repeat themselves.")
    if final["empty_share"] > 0.02:
        warnings.append(f"{final['empty_share']:.0%} of the answers are empty.")
    if final["same_opening"] > max(0.25, 2 * start["same_opening"]):
        warnings.append(f"{final['same_opening']:.0%} of the answers open with the same three words: a template.")
    return warnings


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
    """The answers that a run's evaluation stored of a policy, by prompt (its turns included)."""
    held_out: list[ExampleRow] = read_table(run / HELD_OUT)
    prompts = {row["example"]: PromptText(row["messages"]) for row in held_out}
    stored = texts_by_example(run / held_out_samples(round_))
    return {prompts[example]: texts for example, texts in stored.items()}
