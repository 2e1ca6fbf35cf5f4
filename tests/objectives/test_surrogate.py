"""The clipped ratio against a reference of a few lines, and its gradient where the policy has not moved."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batches import two_pairs
from sparring.objectives.pairs import Batch
from sparring.objectives.surrogate import ClippedSurrogate

RESPONSES = st.lists(
    st.tuples(
        st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1), st.integers(1, 5), st.integers(0, 2)
    ),
    min_size=1,
    max_size=8,
)
"""log pi, log pi_t, log ref, win rate, tokens, example"""


def batch_of(rows: list[tuple[float, float, float, float, int, int]]) -> Batch:
    rows = sorted(rows, key=lambda row: row[5])
    names = sorted({row[5] for row in rows})
    logps, iterate, reference, rates, lengths, examples = map(list, zip(*rows, strict=True))
    batch = two_pairs(logps, pairs=(), win_rates=rates, iterate=iterate, reference=reference)
    return replace(
        batch, lengths_R=torch.tensor(lengths), example_R=torch.tensor([names.index(name) for name in examples])
    )


def reference_loss(loss: ClippedSurrogate, batch: Batch) -> float:
    """The formulas, one response at a time."""
    total = 0.0
    for example in range(int(batch.example_R.max()) + 1):
        rows = [i for i, owner in enumerate(batch.example_R.tolist()) if owner == example]
        advantages = [2 * (float(batch.win_rates_R[i]) - 0.5) for i in rows]
        mean = sum(advantages) / len(rows)
        spread = math.sqrt(sum((a - mean) ** 2 for a in advantages) / len(rows))
        values = []
        for i, advantage in zip(rows, advantages, strict=True):
            if loss.normalise and spread > 1e-6:
                advantage /= spread
            length = int(batch.lengths_R[i]) if loss.per_token else 1
            logp = batch.logps_R[i].item()
            ratio = math.exp((logp - float(batch.anchor_logps["iterate"][i])) / length)
            bounded = min(max(ratio, 1 - loss.clip_low), 1 + loss.clip_high)
            behind = (float(batch.anchor_logps["reference"][i]) - logp) / length
            k3 = math.exp(behind) - behind - 1
            values.append(-min(ratio * advantage, bounded * advantage) + loss.kl_to_reference * k3)
        total += sum(values) / len(rows)
    return total


@given(RESPONSES, st.booleans(), st.booleans(), st.sampled_from([0.0, 0.3]))
def test_the_loss_is_the_formula(rows: list, per_token: bool, normalise: bool, kl: float) -> None:  # type: ignore[type-arg]
    loss = ClippedSurrogate(0.2, 0.3, per_token, normalise, kl)
    batch = batch_of(rows)
    assert loss(batch).total.item() == pytest.approx(reference_loss(loss, batch), rel=1e-9, abs=1e-9)


def test_where_the_policy_has_not_moved_the_gradient_is_reinforce() -> None:
    batch = two_pairs([-1.0, -2.0], pairs=(), win_rates=[0.75, 0.25], iterate=[-1.0, -2.0], reference=[0.0, 0.0])
    ClippedSurrogate()(batch).total.backward()
    assert batch.logps_R.grad is not None
    assert batch.logps_R.grad.tolist() == pytest.approx([-0.25, 0.25])  # -A / 2 of two responses


def test_equal_siblings_have_no_gradient() -> None:
    batch = two_pairs([-1.0, -2.0], pairs=(), win_rates=[0.5, 0.5], iterate=[-1.3, -2.0], reference=[0.0, 0.0])
    loss = ClippedSurrogate(normalise=True)(batch)
    loss.total.backward()
    assert batch.logps_R.grad is not None
    assert batch.logps_R.grad.abs().max() == 0.0


def test_a_ratio_beyond_its_bound_gets_no_gradient_but_the_way_back_does() -> None:
    rates, moved = [1.0, 0.0, 0.0, 1.0], [0.5, -0.5, 0.5, -0.5]
    batch = two_pairs(moved, pairs=(), win_rates=rates, iterate=[0.0] * 4, reference=[0.0] * 4)
    loss = ClippedSurrogate()(batch)
    loss.total.backward()
    assert batch.logps_R.grad is not None
    assert [bool(g) for g in batch.logps_R.grad] == [False, False, True, True]
    assert loss.metrics["ratio_clipped"].tolist() == [1.0, 1.0, 0.0, 0.0]  # type: ignore[union-attr]
