"""Where DPO, IPO and chi-PO take their pairs: a fixed set, or the iterate's own judged samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, Algorithm, Column, Draw, PolicyRef, Step
from sparring.algorithms.judged import IID, PAIRINGS, PairingName, check_pairing
from sparring.algorithms.pairing import Against
from sparring.games.game import Array, Game
from sparring.objectives.pairs import Objective

OWN_IID: Mapping[str, Any] = {**IID, "source": "own", "reference": "iterate"}
"""fields of these methods at the scale of exact games"""
EITHER_SOURCE = {
    "samples": "none, or the iterate",
    "pairing": "the data's, or any",
    "needs": "pairs, or prompts and an oracle",
}
"""their entries in `About`"""


class PairSource(Algorithm):
    """Fields of methods with one anchor that can run offline or iteratively."""

    source: Literal["pairs", "own"] = "pairs"
    """pairs: the data's chosen and rejected (offline); own: the iterate's judged samples (iterative)"""
    reference: Literal["start", "iterate", "none"] = "start"
    """the anchor: the run's starting policy in every round, the policy at the round's start, or no reference at all"""
    samples: int = Field(default=4, ge=1)
    """K, responses per prompt and round; only with source: own"""
    pairing: PairingName = "best_worst"
    """how K judged responses become pairs; only with source: own"""
    soft_labels: bool = False
    """use a probability as the label of a pair: the oracle's (source: own), or the data's own (source: pairs), from a
    column of preferences, margins or scores"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "own":
            check_pairing(self.pairing, self.samples)
        return self

    @property
    def anchor(self) -> str:
        """The anchor's name; the log measures movement against `reference` and `iterate` under these names."""
        return "reference" if self.reference == "start" else "iterate"

    @property
    def anchor_weights(self) -> dict[str, float]:
        """The anchor with weight 1; empty where there is no reference."""
        return {} if self.reference == "none" else {self.anchor: 1.0}

    def exact_anchor(self, game: Game, history: Sequence[Array]) -> Array:
        """(C, n): log-probabilities of the anchor in the round after `history`, up to a shift."""
        if self.reference == "none":
            return np.zeros_like(game.log_reference)
        return game.log_reference if self.reference == "start" else history[-1]

    def pair_step(self, t: int, objective: Objective) -> Step:
        """The round's one step under `objective`, whose only anchor is `self.anchor`, or which has none."""
        iterate = PolicyRef(t)
        anchors = {name: REFERENCE if name == "reference" else iterate for name in self.anchor_weights}
        if self.source == "pairs":
            columns = Column("chosen"), Column("rejected")
            pairing = Against("chosen", "rejected", self.soft_labels)
            return Step(iterate, columns, pairing, objective, anchors, given_preferences=self.soft_labels)
        draw = Draw("own", self.samples, {iterate: 1.0})
        return Step(iterate, (draw,), PAIRINGS[self.pairing], objective, anchors, judged=True)
