"""Metrics of every step of a fit, and the tripwires that stop it before it ruins a run.

Leaves out: the loss (`objectives/pairs.py`) and writing (`fit.py`).

Shape suffixes: R responses, P pairs; `_` is the length of any vector whose mean is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sparring.objectives.pairs import Batch, Loss, Masked, margins, of_term
from sparring.recipe.sections import TripwireConfig
from sparring.runtime.devices import RaisedByAll

Totals = dict[str, tuple[float, int]]
"""by metric: sum and count"""


class Tripwire(RaisedByAll):
    """A run was stopped because going on would ruin the policy."""


class MetricSums:
    """Sums and counts of metrics over micro-batches; they stay on the device, without a host sync, until `totals`."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[Float[Tensor, ""], Float[Tensor, ""]]] = {}

    def add(self, values: Mapping[str, Float[Tensor, " _"] | Masked]) -> None:
        """Add the counted entries of each vector to its metric's sum."""
        for name, vector in values.items():
            entries, counted = _masked(vector)
            zero = torch.zeros((), device=entries.device)
            total, count = self.sums.get(name, (zero, zero))
            # `where`, not a product: an entry that does not count may be NaN.
            part = entries.detach().float().where(counted, zero).sum()
            self.sums[name] = total + part, count + counted.sum()

    def totals(self) -> Totals:
        """Sum and count by name; names without any value are left out."""
        return {name: (float(total), int(count)) for name, (total, count) in self.sums.items() if count}


def _masked(vector: Float[Tensor, " _"] | Masked) -> Masked:
    """The vector with its mask; all entries of a plain tensor count."""
    return vector if isinstance(vector, Masked) else Masked(vector, torch.ones_like(vector, dtype=torch.bool))


def merged(parts: Iterable[Totals]) -> Totals:
    """Totals of several ranks together."""
    merged_totals: Totals = {}
    for part in parts:
        for name, (total, count) in part.items():
            before, counted = merged_totals.get(name, (0.0, 0))
            merged_totals[name] = before + total, counted + count
    return merged_totals


@torch.no_grad()
def pair_metrics(batch: Batch, loss: Loss) -> dict[str, Float[Tensor, " _"] | Masked]:
    """Margin and target from the objective, accuracy, and log-ratios to reference and iterate.

    `chosen_vs_reference` is log pi(y_w)/pi_ref(y_w) in nats per response, and so on; `kl_to_iterate` is
    log pi_t(y)/pi(y) on the iterate's own responses: unbiased for KL(pi_t || pi) when these were not selected.
    """
    metrics = dict(loss.metrics)
    winner_P, loser_P = batch.pairs_P2.unbind(1)
    for name in ("reference", "iterate"):
        if name in batch.anchor_logps:
            ratio_R = batch.logps_R - batch.anchor_logps[name]
            metrics[f"chosen_vs_{name}"] = of_term(ratio_R[winner_P], batch, 0)
            metrics[f"rejected_vs_{name}"] = of_term(ratio_R[loser_P], batch, 0)
    if "margin" in metrics:
        margin_P, counted_P = _masked(metrics["margin"])
        metrics["accuracy"] = Masked((margin_P > 0).float(), counted_P)
    if "iterate" in batch.anchor_logps:
        places = [i for i, role in enumerate(batch.roles) if role == "own"]
        own = torch.tensor(places, dtype=torch.long, device=batch.logps_R.device)
        metrics["kl_to_iterate"] = (batch.anchor_logps["iterate"] - batch.logps_R)[own]
    metrics["policy_margin"] = of_term(margins(batch.logps_R, batch.pairs_P2), batch, 0)
    return metrics


def check_tripwires(row: Mapping[str, float], bounds: TripwireConfig) -> None:
    """Raise `Tripwire` when a step's metrics show that the fit is going wrong."""
    if not math.isfinite(row["loss"]) or not math.isfinite(row["grad_norm"]):
        raise Tripwire(
            f"step {row['step']:.0f}: loss {row['loss']}, gradient norm {row['grad_norm']}. The fit diverged; "
            "lower fit.learning_rate, or use fit.precision: float32."
        )
    kl = row.get("kl_to_iterate")
    if bounds.kl_to_iterate is not None and kl is not None and abs(kl) > bounds.kl_to_iterate:
        raise Tripwire(
            f"step {row['step']:.0f}: the policy is {kl:.0f} nats per response away from the iterate (bound "
            f"fit.tripwires.kl_to_iterate = {bounds.kl_to_iterate:g}). Lower fit.learning_rate or fit.epochs, or "
            "raise the bound if this is wanted."
        )
    fall = bounds.falling_likelihood
    pair = row.get("chosen_vs_iterate"), row.get("rejected_vs_iterate")
    if fall is not None and None not in pair and max(pair) < -fall:  # type: ignore[type-var]
        raise Tripwire(
            f"step {row['step']:.0f}: chosen and rejected responses both lost likelihood ({pair[0]:.0f} and "
            f"{pair[1]:.0f} nats; bound fit.tripwires.falling_likelihood = {fall:g}). The policy moves to text that "
            "was never judged. Lower fit.learning_rate, or raise kl_to_reference or beta."
        )
