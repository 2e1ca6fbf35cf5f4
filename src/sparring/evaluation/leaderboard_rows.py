"""One row of a leaderboard table: a benchmark's scores under one policy, or under two and their difference.

Leaves out: scoring a policy's documents (`leaderboard.py`), and tests of two policies (`paired.py`).

    benchmark_row("arc", {"before": Leaderboard(start, out), "after": Leaderboard(policy, out)}, verify=0)["p"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparring.evaluation.intervals import interval
from sparring.evaluation.leaderboard import Leaderboard, find_benchmark, pair_documents
from sparring.evaluation.paired import bounds_of, compare

DISAGREEMENT = 0.01
"""nats per document: float32 in two orders of summation stays far below it"""


def benchmark_row(name: str, boards: Mapping[str, Leaderboard], verify: int) -> dict[str, Any]:
    """The mean score of "after" with its 95 % interval; with a policy "before", also `paired.compare` of the two.

    The first `verify` documents are scored with Sparring's own log-probabilities too.

    Raises:
        ValueError: a task cannot be scored, the documents of the two differ, or lm-eval's scores are not Sparring's.
    """
    benchmark = find_benchmark(name)
    scored = {side: board.run(benchmark) for side, board in boards.items()}
    after = scored["after"]
    row: dict[str, Any] = {"name": name, "task": benchmark.task, "metric": after["metric"], "shots": after["shots"]}
    row |= {"documents": len(after["documents"]), "total": benchmark.documents or after["total"]}
    if "before" in scored:
        row |= compare(*pair_documents(scored["before"], after))
    else:
        scores = np.array([document["score"] for document in after["documents"]], dtype=np.float64)
        row["after"] = interval(scores.tolist(), bounds_of(scores))
    if verify:
        row["verified"] = _verified(boards["after"], after["documents"][:verify])
    return row


def _verified(board: Leaderboard, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The largest difference between lm-eval's and our log-likelihoods; None for tasks that generate text."""
    if not documents or not documents[0]["choices"]:
        return None
    own_values = board.own_log_likelihoods(documents)
    pairs = [
        pair
        for document, own in zip(documents, own_values, strict=True)
        if own is not None
        for pair in zip(document["log_likelihoods"], own, strict=True)
    ]
    worst = max((abs(p - q) for p, q in pairs), default=0.0)
    if worst > DISAGREEMENT:
        raise ValueError(
            f"lm-eval's log-likelihoods differ from Sparring's by up to {worst:.3g} nats: this architecture is scored "
            "differently by the two. Leave out --verify to have lm-eval's numbers all the same."
        )
    return {"documents": sum(own is not None for own in own_values), "largest_difference": worst}
