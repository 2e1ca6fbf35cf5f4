"""Which policies are evaluated, and measures of each one's held-out samples: length, finishing, diversity, KL.

Leaves out: comparing policies (`evaluate.py`, `evaluate_play.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparring.algorithms.algorithm import REFERENCE, PolicyRef
from sparring.data.text import distinct_trigrams, repeating_share
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import FitConfig
from sparring.rounds.anchor import policy_logps
from sparring.rounds.policies import Policies
from sparring.rounds.sample import MOST_CUT
from sparring.rounds.store import Counts
from sparring.rounds.tables import ExampleRow, SampleRow
from sparring.runtime.files import read_table, write_json
from sparring.runtime.layout import evaluation_stage, held_out_samples
from sparring.runtime.progress import Progress
from sparring.training.packing import Rollout

MEASURED = (
    *("tokens_mean", "tokens_p10", "tokens_p90", "finished_share", "empty_share", "distinct_trigrams"),
    *("repeating_share", "distinct_answers", "same_opening", "kl_to_start", "kl_standard_error"),
)


def evaluated(policies: Policies, recipe: Recipe) -> list[PolicyRef]:
    """The policies that are evaluated: the start, the last, and those between them that the recipe asks for.

    These must be stored, or have been sampled before they were pruned.
    """
    *between, last = map(PolicyRef, recipe.evaluated_rounds())
    return [REFERENCE, *(ref for ref in between if can_be_evaluated(policies, recipe, ref)), last]


def can_be_evaluated(policies: Policies, recipe: Recipe, ref: PolicyRef) -> bool:
    """Whether a policy is stored; with evaluation.every its samples are enough."""
    sampled = recipe.evaluation.every is not None and policies.store.finished(evaluation_stage("sample", ref.round))
    return sampled or policies.exists(ref)


def measure(
    policies: Policies, recipe: Recipe, ref: PolicyRef, held_out: Sequence[ExampleRow], progress: Progress, target: Path
) -> Counts:
    """Write length, finishing, diversity and KL to the start of one policy's held-out samples."""
    rows: list[SampleRow] = read_table(policies.store.root / held_out_samples(ref.round))
    texts, lengths = [row["text"] for row in rows], [len(row["token_ids"]) for row in rows]
    if not rows:  # of an environment's episodes
        measures: dict[str, Any] = {"round": ref.round, **dict.fromkeys(MEASURED)}
        write_json(target, measures)
        return measures
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


def policy_warnings(measured: list[dict[str, Any]], answers: bool = True) -> list[str]:
    """Signs that the oracle was gamed, or that answers had no room, in words.

    Of moves in a game, which are no `answers`, many begin alike and end at the limit.
    """
    start, final = measured[0], measured[-1]
    if start["tokens_mean"] is None or final["tokens_mean"] is None:
        return ["No held-out episode has a reply with a reward, so nothing could be measured."]
    warnings = []
    before, after = start["tokens_mean"], final["tokens_mean"]
    if not 0.5 * before <= after <= 1.5 * before:
        verb = "shrank" if after < before else "grew"
        warnings.append(f"Answers {verb} from {before:.0f} to {after:.0f} tokens.")
    if answers and (cut_off := 1 - final["finished_share"]) > MOST_CUT:
        warnings.append(
            f"{cut_off:.0%} of the final policy's answers were cut off before they ended: judges read beginnings. "
            "Raise sampling.max_new_tokens, in a run of its own."
        )
    if final["repeating_share"] > max(0.1, 2 * start["repeating_share"]):
        warnings.append(f"{final['repeating_share']:.0%} of the answers repeat themselves.")
    if final["empty_share"] > 0.02:
        warnings.append(f"{final['empty_share']:.0%} of the answers are empty.")
    if answers and final["same_opening"] > max(0.25, 2 * start["same_opening"]):
        warnings.append(f"{final['same_opening']:.0%} of the answers open with the same three words: a template.")
    return warnings
