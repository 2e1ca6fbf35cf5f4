"""Calibrates an oracle's probabilities: its log-odds divided by one temperature.

    logit P' = logit P / temperature          temperature = argmin of the log-loss on labelled pairs

A temperature keeps every winner and every symmetry; it makes probabilities less extreme (above 1) or more (below 1).
Give `labels`, a data set of pairs with labels (see `oracles/labelled.py`) that neither training nor evaluation uses, or
the number that `sparring oracle audit` printed. Leaves out: position and length bias, which scaling does not change.

    oracle: {name: calibrated, labels: held_out.jsonl, oracle: {name: reward_model, model: org/reward}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from sparring.oracles.labelled import read_labelled
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.preferences import wins
from sparring.oracles.wrapper import Wrapper

EDGE = 1e-6
RANGE = (0.05, 20.0)
FEWEST_LABELS = 20


class Calibrated(Wrapper):
    """Divides `oracle`'s log-odds by a temperature, given or fitted on `labels` before the first verdict."""

    title = "calibrated"
    about = "Calibrates an oracle's probabilities: its log-odds divided by one temperature."

    def __init__(
        self,
        oracle: Annotated[Oracle, Field(description="the oracle that is calibrated")],
        temperature: Annotated[
            Annotated[float, Field(gt=0)] | None, Field(description="divides the log-odds; null: fitted on `labels`")
        ] = None,
        labels: Annotated[
            str | None, Field(description="file of prompt, chosen, rejected that the temperature is fitted on")
        ] = None,
    ) -> None:
        if (temperature is None) == (labels is None):
            raise ValueError("oracle.temperature and oracle.labels: give one of them, not both.")
        if temperature is not None and not 0 < temperature < np.inf:
            raise ValueError(f"oracle.temperature = {temperature}: give a positive number.")
        super().__init__(oracle)
        self._temperature, self.labels = temperature, labels
        self._accuracy: float | None = None
        self._pairs = [pair for pair in read_labelled(labels)[0] if pair.preference != 0.5] if labels else []
        if labels and len(self._pairs) < FEWEST_LABELS:
            raise ValueError(
                f"oracle.labels: {labels!r} holds {len(self._pairs)} decided pairs; give at least {FEWEST_LABELS}."
            )

    @property
    def identity(self) -> str:
        """The oracle, and the temperature or a hash of the labelled pairs that it follows from."""
        if self.labels is None:
            return f"calibrated({self.oracle.identity};temperature={self._temperature:g})"
        digest = hashlib.sha256(json.dumps(self._pairs).encode()).hexdigest()[:16]
        return f"calibrated({self.oracle.identity};labels={digest})"

    @property
    def asked_first(self) -> list[Comparison]:
        """The labelled pairs, as long as the temperature has to be fitted on the oracle's verdicts on them."""
        return [pair.comparison for pair in self._pairs] if self._temperature is None else []

    @property
    def fitted_on(self) -> list[Comparison]:
        """The labelled pairs."""
        return [pair.comparison for pair in self._pairs]

    @property
    def temperature(self) -> float:
        """The configured temperature, or the fitted one: the first access judges the labelled pairs."""
        if self._temperature is None:
            answers = self.oracle.judge(self.asked_first)
            labels = np.array([pair.preference for pair in self._pairs])
            self._temperature = fit_temperature(answers, labels)
            self._accuracy = float(np.nanmean(np.where(labels > 0.5, wins(answers), 1 - wins(answers))))
        return self._temperature

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b), calibrated."""
        return scaled(self.oracle.judge(comparisons), self.temperature)

    def diagnosis(self) -> str:
        """A warning where the fitted temperature is not to be trusted; else empty."""
        if self._accuracy is None:
            return ""
        low, high = RANGE
        if self._accuracy >= 0.5 and 1.01 * low < self.temperature < 0.99 * high:
            return ""
        return (
            f"warning: the oracle agrees with {self._accuracy:.0%} of the {len(self._pairs)} pairs in oracle.labels = "
            f"{self.labels!r}, and its best temperature is {self.temperature:.3g} of {low:g} to {high:g}: the labels "
            "contradict it, or are too few. Check which answer they prefer, or take another oracle."
        )

    def counts(self) -> dict[str, object]:
        """The temperature once it is known, the oracle's accuracy on the labels, and the oracle's counts."""
        known = {"temperature": self._temperature, "accuracy on the labels": self._accuracy}
        return {**{k: round(v, 4) for k, v in known.items() if v is not None}, **super().counts()}


def scaled(preferences: Float[np.ndarray, " N"], temperature: float) -> Float[np.ndarray, " N"]:
    """Log-odds divided by `temperature`."""
    return expit(logit(np.clip(preferences, EDGE, 1 - EDGE)) / temperature)


def fit_temperature(preferences: Float[np.ndarray, " N"], labels: Float[np.ndarray, " N"]) -> float:
    """The temperature of least log-loss against `labels` in [0, 1]; failed verdicts (NaN) are left out.

    Raises:
        ValueError: too few pairs were judged.
    """
    judged = ~np.isnan(preferences)
    if judged.sum() < FEWEST_LABELS:
        raise ValueError(
            f"calibration: {judged.sum()} of {len(labels)} labelled pairs were judged; {FEWEST_LABELS} are needed."
        )
    odds, truth = logit(np.clip(preferences[judged], EDGE, 1 - EDGE)), labels[judged]

    def loss(log_temperature: float) -> float:
        scores = odds / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0.0, scores) - truth * scores))

    best = minimize_scalar(loss, bounds=(np.log(RANGE[0]), np.log(RANGE[1])), method="bounded")
    return float(np.exp(best.x))
