"""From judged samples to training pairs.

A pairing is a generator: it yields waves of comparisons (a, b) that it wants judged, receives their
probabilities P(a beats b) (NaN where the oracle failed), and finally returns `Pairs`. The judge
stage runs it against the oracle, all prompts in step; the pair stage replays it on the stored verdicts.
So the needed comparisons and their meaning stand in one place. Leaves out: the losses.

    game = BestWorst().play(["own"] * 4, seed=0); wave = next(game)

Pairs whose responses come from different policies bias a pair-difference step; i.i.d. from one
policy do not, and best-worst or knockout selection does (docs/concepts.md, selection bias).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from sparring.objectives.pairs import DATA, PESSIMISM, Pair

Comparison = tuple[int, int]
Wave = list[Comparison]
Game = Generator[Wave, Sequence[float], "Pairs"]
Label = Literal["sampled", "likelier"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """One example after its pairing: pairs and win rates by response, or the reason why there are none."""

    pairs: tuple[Pair, ...]
    win_rates: tuple[float, ...]
    unpaired: tuple[int, ...] = ()
    """responses that the objective needs beside those in pairs (lists, reference samples)"""
    dropped: str = ""
    """empty when the example is used; otherwise the reason, counted and shown"""


class Pairing(Protocol):
    """A rule that turns the responses of one prompt into training pairs."""

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """The game for one example whose responses have these roles, in order."""
        ...


def having(roles: Sequence[str], role: str = "own") -> list[int]:
    """Indices of the responses that have this role."""
    return [index for index, name in enumerate(roles) if name == role]


class Verdicts(dict[Comparison, float]):
    """Probabilities by ordered pair; knows P(b, a) from P(a, b)."""

    def add(self, wave: Wave, probabilities: Sequence[float]) -> None:
        """Store a wave's probabilities in both orders."""
        for (a, b), probability in zip(wave, probabilities, strict=True):
            self[a, b], self[b, a] = probability, 1.0 - probability

    def win_rate(self, index: int) -> float:
        """Mean preference of one response over those it was compared with, itself (1/2) included."""
        values = [p for (a, _), p in self.items() if a == index and not np.isnan(p)]
        return float(np.mean([0.5, *values])) if values else float("nan")


def _unjudged(count: int) -> tuple[float, ...]:
    return (float("nan"),) * count


def _all_compared(
    roles: Sequence[str],
) -> Generator[Wave, Sequence[float], tuple[list[int], Verdicts, tuple[float, ...]]]:
    """One wave of all K(K-1)/2 comparisons of own samples; their indices, the verdicts and every win rate."""
    indices, verdicts = having(roles), Verdicts()
    wave = list(itertools.combinations(indices, 2))
    verdicts.add(wave, (yield wave))
    return indices, verdicts, tuple(verdicts.win_rate(i) for i in range(len(roles)))


@dataclass(frozen=True, slots=True)
class IndependentPairs:
    """Samples 2i and 2i+1 form pairs, each drawn independently of the oracle: the theory's pairs.

    `label` says who is called the winner: `sampled` draws it with probability P (INPO's D_t),
    `likelier` takes the one with P > 1/2. Soft targets do not depend on it.
    """

    label: Label = "sampled"

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """One wave of count/2 comparisons."""
        indices, verdicts = having(roles), Verdicts()
        wave = list(zip(indices[::2], indices[1::2], strict=False))
        verdicts.add(wave, (yield wave))
        return _labelled(wave, verdicts, tuple(verdicts.win_rate(i) for i in range(len(roles))), self.label, seed)


def _labelled(wave: Wave, verdicts: Verdicts, rates: tuple[float, ...], label: Label, seed: int) -> Pairs:
    """Every judged comparison of the wave as a pair of equal weight."""
    draw, pairs = random.Random(seed), []
    for a, b in wave:
        p = verdicts[a, b]
        if not np.isnan(p):
            first_wins = draw.random() < p if label == "sampled" else p >= 0.5
            pairs.append(Pair(a, b, p) if first_wins else Pair(b, a, 1.0 - p))
    return Pairs(_even(pairs), rates) if pairs else Pairs((), rates, dropped="no verdict")


def _even(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    return tuple(replace(pair, weight=1.0 / len(pairs)) for pair in pairs)


@dataclass(frozen=True, slots=True)
class BestWorst:
    """All K(K-1)/2 comparisons; the response with the best mean win rate against the worst."""

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """One wave; ties go to the earlier response, and equal extremes drop the example."""
        indices, verdicts, rates = yield from _all_compared(roles)
        judged = [i for i in indices if not np.isnan(rates[i])]
        if len(judged) < 2:
            return Pairs((), rates, dropped="no verdict")
        best, worst = max(judged, key=lambda i: rates[i]), min(judged, key=lambda i: rates[i])
        if rates[best] == rates[worst]:
            return Pairs((), rates, dropped="tie")
        preference = verdicts.get((best, worst), float("nan"))
        if np.isnan(preference):
            return Pairs((), rates, dropped="no verdict")
        return Pairs((Pair(best, worst, preference),), rates)


@dataclass(frozen=True, slots=True)
class AllPairs:
    """All K(K-1)/2 comparisons, every one a training pair of equal weight; `label` as in `IndependentPairs`."""

    label: Label = "sampled"

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """One wave."""
        indices, verdicts, rates = yield from _all_compared(roles)
        return _labelled(list(itertools.combinations(indices, 2)), verdicts, rates, self.label, seed)


@dataclass(frozen=True, slots=True)
class Knockout:
    """INPO's tournament (2407.00617): at most 11 comparisons for K = 8 instead of 28.

    Adjacent matches; winners play on to one winner, losers to one loser; ties go to the first; the
    two are a pair only if the winner then beats the loser, which is not asked again if they have met. A missing
    verdict drops the example.
    """

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """At most log2(K) + 1 waves; needs K a power of two."""
        indices, verdicts = having(roles), Verdicts()
        none = _unjudged(len(roles))
        winners, losers = indices, indices
        while len(winners) > 1:
            matches = list(zip(winners[::2], winners[1::2], strict=True))
            below = list(zip(losers[::2], losers[1::2], strict=True))
            wave = list(dict.fromkeys([*matches, *below]))
            verdicts.add(wave, (yield wave))
            if any(np.isnan(verdicts[match]) for match in wave):
                return Pairs((), none, dropped="no verdict")
            winners = [a if verdicts[a, b] >= 0.5 else b for a, b in matches]
            losers = [b if verdicts[a, b] >= 0.5 else a for a, b in below]
        final = winners[0], losers[0]
        if final not in verdicts:
            verdicts.add([final], (yield [final]))
        if np.isnan(verdicts[final]):
            return Pairs((), none, dropped="no verdict")
        if verdicts[final] <= 0.5:
            return Pairs((), none, dropped="final not won")
        return Pairs((Pair(*final, verdicts[final]),), none)


@dataclass(frozen=True, slots=True)
class Against:
    """Every response of role `winner` over every response of role `loser`; nothing is judged.

    SPIN: gold over own samples. Offline DPO and IPO: chosen over rejected. `soft`: with the data's own probability.
    """

    winner: str
    loser: str
    soft: bool = False

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """No comparisons; with `soft` those of all pairs, which the data answer."""
        wave = [(win, lose) for win in having(roles, self.winner) for lose in having(roles, self.loser)]
        if not self.soft:
            yield []
            return Pairs(_even([Pair(*match) for match in wave]), _unjudged(len(roles)))
        known = zip(wave, (yield wave), strict=True)
        pairs = _even([Pair(*match, p) for match, p in known if not np.isnan(p)])
        return Pairs(pairs, _unjudged(len(roles)), dropped="" if pairs else "no verdict")


@dataclass(frozen=True, slots=True)
class ChosenRejectedOwn:
    """SPAC: the data's pair as term DATA; both of its responses against each own one as PESSIMISM."""

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """No comparisons."""
        yield []
        chosen, rejected = having(roles, "chosen")[0], having(roles, "rejected")[0]
        fresh = having(roles)
        half = 0.5 / len(fresh)
        pessimism = [Pair(data, sample, weight=half, term=PESSIMISM) for sample in fresh for data in (chosen, rejected)]
        pairs = (Pair(chosen, rejected, term=DATA), *pessimism)
        return Pairs(pairs, _unjudged(len(roles)))


@dataclass(frozen=True, slots=True)
class Listwise:
    """All K(K-1)/2 comparisons; the judged responses form one list, without pairs."""

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """One wave; fewer than two judged responses, or all equal, drop the example."""
        indices, _, rates = yield from _all_compared(roles)
        judged = tuple(i for i in indices if not np.isnan(rates[i]))
        if len(judged) < 2:
            return Pairs((), rates, dropped="no verdict")
        if len({rates[i] for i in judged}) == 1:
            return Pairs((), rates, dropped="tie")
        return Pairs((), rates, unpaired=judged)


BASELINE = -1
"""In a comparison of rewards, the place of the baseline: what the role got lately, or nothing"""


@dataclass(frozen=True, slots=True)
class AgainstBaseline:
    """Every own response against a baseline, not against its siblings: for rewards of an environment.

    `decay`: the baseline is the role's mean reward, exponentially weighted over tasks in their order and carried from
    round to round (SPIRAL's role-conditioned advantage, 2506.24119); None: the baseline is 0 (SPC, 2504.19162).
    """

    decay: float | None = 0.95

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """One wave; responses that all equal the baseline drop the example."""
        indices = having(roles)
        rates = yield [(index, BASELINE) for index in indices]
        if all(rate == 0.5 for rate in rates):
            return Pairs((), tuple(rates), dropped="rewards equal the baseline")
        return Pairs((), tuple(rates), unpaired=tuple(indices))


@dataclass(frozen=True, slots=True)
class KeepingRole:
    """Another pairing, with all responses of `role` handed to the objective beside its pairs."""

    inner: Pairing
    role: str

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """The inner game."""
        result = yield from self.inner.play(roles, seed)
        return replace(result, unpaired=tuple(having(roles, self.role))) if result.pairs else result


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Every response by itself, as its role says; nothing is compared."""

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """No comparisons."""
        yield []
        return Pairs((), _unjudged(len(roles)), unpaired=tuple(range(len(roles))))


@dataclass(frozen=True, slots=True)
class Across:
    """The k-th response of role `first` against the k-th of role `second`, judged; `label` as in `IndependentPairs`."""

    first: str = "own"
    second: str = "reference"
    label: Label = "sampled"

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """One wave of as many comparisons as the smaller role has responses."""
        verdicts, wave = Verdicts(), list(zip(having(roles, self.first), having(roles, self.second), strict=False))
        verdicts.add(wave, (yield wave))
        return _labelled(wave, verdicts, tuple(verdicts.win_rate(i) for i in range(len(roles))), self.label, seed)


@dataclass(frozen=True, slots=True)
class Ladder:
    """T-SPIN: gold over every own response (term 0), and every own one over every sample of the start (term 1)."""

    def play(self, roles: Sequence[str], seed: int) -> Game:
        """No comparisons."""
        yield []
        gold, own, start = (having(roles, role) for role in ("gold", "own", "start"))
        above = [Pair(a, b, weight=1.0 / (len(gold) * len(own)), term=DATA) for a in gold for b in own]
        below = [Pair(a, b, weight=1.0 / (len(own) * len(start)), term=PESSIMISM) for a in own for b in start]
        return Pairs((*above, *below), _unjudged(len(roles)))
