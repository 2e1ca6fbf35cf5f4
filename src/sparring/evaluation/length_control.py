"""Length-controlled win rates: what the win rate would be if both answers had the same length.

The regression of AlpacaEval 2 (Dubois et al. 2024, 2404.04475, eq. 2), a logistic model of the preference p_i:

    logit P(model wins on i) = w_length tanh(d_i / std(d)) + w_difficulty gamma_i + w_model,   d_i = length difference

fitted by  min_w |w|_1 + C sum_i s_i CE(p_i, w . x_i)  without intercept, C chosen by five-fold cross-validation among
ten values from 1e-4 to 1e4. The length-controlled win rate is the mean prediction with d_i = 0. `length_controlled_v1`
shares w_length and w_difficulty with judgments of the baseline against its own verbose and concise answers (weight
0.1 a row); `length_controlled_minimal` has neither those rows nor the difficulty. Lengths are characters, baseline
minus model, as there: a positive w_length says that shorter answers win.

The minimal formula differs from AlpacaEval's in two things, because cross-validation on few prompts prefers a penalty
that sets weights to 0: w_model is not penalised (at 0 the win rate at equal lengths is 50 % with no error, whatever the
answers were worth), and C is always 10 (at w_length = 0 the raw win rate comes out again, as if length were removed).
The penalty that is left only keeps w_length finite where length decides everything.

Leaves out: reading files (`alpaca_eval.py`). Differs from AlpacaEval in the solver (to the optimum, where liblinear
stops early) and in the rows of each fold, which can choose a neighbouring C: up to 0.2 points.

    length_controlled(preferences, lengths, baseline_lengths).rate
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from sparring.evaluation.intervals import TAIL, Interval
from sparring.evaluation.logistic import cross_entropies, fit_logistic

STRENGTHS = np.logspace(-4, 4, 10)
MINIMAL_STRENGTH = 10.0
"""C of the minimal formula; see the module"""
FOLDS = 5
GAMED_WEIGHT = 0.1
"""lambda = 0.2 of AlpacaEval, over two gamed versions of the baseline"""
LEAST_SPREAD = 0.05
"""standard deviation of the length feature, as a share of its mean, below which length and model are one"""


@dataclass(frozen=True, slots=True)
class Gamed:
    """Judgments of the baseline against its own verbose and concise answers, and how hard each instruction is."""

    preferences: np.ndarray
    scaled_lengths: np.ndarray
    """d / std(d) of each judgment"""
    difficulties: np.ndarray
    """gamma of each judgment"""
    by_index: np.ndarray
    """gamma of each instruction, in AlpacaEval's order"""


@dataclass(frozen=True, slots=True)
class AtEqualLengths(Interval):
    """Mean of P(model wins) at equal lengths over all instructions, also those without a preference.

    The interval is a Bayesian bootstrap's over instructions, the weights fitted again at the same C; each end adds an
    unseen instruction, as in `intervals.py`.
    """

    weights: dict[str, float]
    formula: str
    strength: float
    """C, chosen or of the minimal formula: the larger, the weaker the penalty"""


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """The regression's result."""

    rate: AtEqualLengths
    standard_error: float
    """AlpacaEval's, of the predictions' mean at known weights; the bootstrap's under the minimal formula"""


def length_controlled(
    preferences: np.ndarray,
    lengths: np.ndarray,
    baseline_lengths: np.ndarray,
    gamed: Gamed | None = None,
    indices: np.ndarray | None = None,
    resamples: int = 300,
    seed: int = 0,
) -> LengthControlled:
    """The length-controlled win rate of a model against a baseline; NaN preferences do not enter the fit.

    With `gamed` the formula is `length_controlled_v1`, and `indices` has the number of each row's instruction; without
    it is `length_controlled_minimal`. Lengths are in characters.

    Raises:
        ValueError: fewer than five preferences; or the effects of length and model cannot be separated.
    """
    if (judged := int((~np.isnan(preferences)).sum())) < FOLDS:
        raise ValueError(
            f"a length-controlled win rate needs at least {FOLDS} preferences, got {judged}. Use the raw win rate "
            "(evaluate head-to-head)."
        )
    if gamed is None and not separable(lengths, baseline_lengths):
        raise ValueError(
            "a length-controlled win rate is not possible: the answers' lengths differ by nearly the same on every "
            "prompt, so the effect of length cannot be told from the model's. Use the raw win rate."
        )
    tanh = np.tanh(scaled_differences(lengths, baseline_lengths))
    gamma = np.zeros((len(tanh), 0))
    if gamed is not None:
        assert indices is not None
        gamma = gamed.by_index[indices][:, None]
    # Columns: length, model, difficulty.
    own = np.column_stack([tanh, np.ones(len(tanh)), gamma])
    equal = own * np.array([0.0, *np.ones(own.shape[1] - 1)])
    penalised = np.array([1.0, float(gamed is not None), 1.0])[: own.shape[1]]
    known = ~np.isnan(preferences)
    features, targets, importance = own[known], preferences[known], np.ones(judged)
    if gamed is not None:
        shared = np.column_stack([np.tanh(gamed.scaled_lengths), 0 * gamed.preferences, gamed.difficulties])
        features, targets = np.vstack([shared, features]), np.concatenate([gamed.preferences, targets])
        importance = np.concatenate([np.full(len(shared), GAMED_WEIGHT), importance])
    strength = MINIMAL_STRENGTH if gamed is None else choose_strength(features, targets, importance)
    penalties = penalised / strength
    weights = fit_logistic(features, targets, importance, penalties)
    predictions = expit(equal @ weights)

    # The intervals weigh prompts at random, with one more, unseen, of equal lengths, that is lost or won.
    unseen = equal.mean(0)
    features, equal = np.vstack([features, unseen]), np.vstack([equal, unseen])
    rng, both = np.random.default_rng(seed), np.empty((resamples, 2))
    for b in range(resamples):
        weight = rng.exponential(size=len(equal))
        importances = np.concatenate([importance[:-judged], weight[:-1][known], weight[-1:]])
        for won in (0, 1):
            fitted = fit_logistic(features, np.append(targets, won), importances, penalties, weights)
            both[b, won] = np.average(expit(equal @ fitted), weights=weight)
    low, high = float(np.quantile(both[:, 0], TAIL)), float(np.quantile(both[:, 1], 1 - TAIL))
    named: dict[str, float] = dict(zip(("length", "model", "difficulty"), weights.tolist(), strict=False))
    formula = "length_controlled_minimal" if gamed is None else "length_controlled_v1"
    # At equal lengths the minimal formula predicts the same for every instruction: AlpacaEval's error would be 0.
    error = both.mean(1).std() if gamed is None else predictions.std(ddof=1) / np.sqrt(len(predictions))
    return LengthControlled(
        AtEqualLengths(float(predictions.mean()), low, high, named, formula, strength), float(error)
    )


def scaled_differences(lengths: np.ndarray, baseline_lengths: np.ndarray) -> np.ndarray:
    """Baseline minus model in characters, over its standard deviation; 0 where all differences are the same."""
    differences = np.asarray(baseline_lengths, dtype=np.float64) - lengths
    return differences / differences.std(ddof=1) if np.ptp(differences) else np.zeros(len(differences))


def separable(lengths: np.ndarray, baseline_lengths: np.ndarray) -> bool:
    """Whether the length feature varies; as a multiple of the constant it gives the regression no single answer."""
    if not np.ptp(lengths - baseline_lengths):
        return bool(lengths[0] == baseline_lengths[0])
    tanh = np.tanh(scaled_differences(lengths, baseline_lengths))
    return bool(tanh.std() >= LEAST_SPREAD * abs(tanh.mean()))


def choose_strength(features: np.ndarray, targets: np.ndarray, importance: np.ndarray) -> float:
    """The C with the least cross-validated cross-entropy; rows go to the folds in turn, from the last."""
    fold = np.arange(len(targets))[::-1] % FOLDS
    losses = np.zeros(len(STRENGTHS))
    for held_out in (fold == k for k in range(FOLDS)):
        weights = np.zeros(features.shape[1])
        for place, strength in enumerate(STRENGTHS):
            penalties = np.full(len(weights), 1 / strength)
            weights = fit_logistic(features[~held_out], targets[~held_out], importance[~held_out], penalties, weights)
            loss = cross_entropies(features[held_out] @ weights, targets[held_out])
            losses[place] += (importance[held_out] * loss).mean()
    return float(STRENGTHS[losses.argmin()])
