"""Writes how often the intervals hold the truth into docs/evaluation/head-to-head.md.

    python docs/make_coverage.py                      # 800 repeats: about 15 minutes of one core
    python docs/make_coverage.py --repeats 100 --show

Prompts have normal effects of twice the spread of a single answer's, and four answers a side; the other cases are the
ones in which few prompts mislead most. Leaves out: errors of the judge, and of sampling one answer anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from tables import table, write_section

from sparring.evaluation.exploitability import Attack, gap
from sparring.evaluation.intervals import DIFFERENCE, SHARE, Bounds, Interval, interval
from sparring.evaluation.length_control import length_controlled, separable
from sparring.evaluation.ratings import SCALE, make_matches, rate

PAGE, SCRIPT = "evaluation/head-to-head.md", "make_coverage.py"
PROMPTS = (12, 24, 64)
MANY = 400_000
Array = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class Case:
    """A mean over prompts, whose values lie `within` bounds."""

    draw: Callable[[int, Generator], Array]
    """values of so many prompts"""
    within: Bounds = SHARE

    @cached_property
    def mean(self) -> float:
        """The truth, from very many prompts."""
        rng = np.random.default_rng(99)
        return float(np.mean([self.draw(20_000, rng).mean() for _ in range(100)]))

    def truth(self) -> float:
        """The mean that an interval should hold."""
        return self.mean

    def interval(self, prompts: int, rng: Generator) -> Interval:
        """The interval of one draw."""
        return interval(self.draw(prompts, rng).tolist(), self.within)


def tables_of(shift: float, prompts: int, rng: Generator) -> Array:
    """Log odds of four answers against four, N x 4 x 4."""
    prompt, a, b = (rng.normal(size=(prompts, *size)) for size in ((1, 1), (4, 1), (1, 4)))
    return shift + 2 * prompt + a - b


def shift_for(truth: float, soft: bool) -> float:
    """The shift at which the mean preference (`soft`) or the win rate is `truth`."""
    noise = np.random.default_rng(9).normal(size=MANY) * 6**0.5
    return float(brentq(lambda x: float((expit(x + noise) if soft else x + noise > 0).mean()) - truth, -30, 30))


def preference(truth: float) -> Case:
    """Mean preferences of 4 x 4 answers."""
    shift = shift_for(truth, soft=True)
    return Case(lambda n, rng: expit(tables_of(shift, n, rng)).mean((1, 2)))


def win_rate(truth: float) -> Case:
    """Shares of wins of 4 x 4 answers."""
    shift = shift_for(truth, soft=False)
    return Case(lambda n, rng: (tables_of(shift, n, rng) > 0).mean((1, 2)))


def _tied(n: int, rng: Generator) -> Array:
    return rng.choice([0.5, 1.0, 0.0], n, p=[0.92, 0.06, 0.02])


def _rare(n: int, rng: Generator) -> Array:
    return np.where(rng.random(n) < 0.06, 0.0, 0.7 + 0.01 * rng.normal(size=n).clip(-3, 3))


def _difference(n: int, rng: Generator) -> Array:
    """Two policies against one opponent, on prompts of the same effects."""
    prompt = 2 * rng.normal(size=(n, 1))
    one, other = (expit(prompt + 0.5 + rng.normal(size=(n, 4))).mean(1) for _ in range(2))
    return np.asarray(one - other)


CASES = {
    **{f"mean preference {truth:g}".replace("0.", "."): preference(truth) for truth in (0.5, 0.7, 0.9, 0.957, 0.99)},
    **{f"win rate {truth:g}".replace("0.", "."): win_rate(truth) for truth in (0.5, 0.8, 0.95, 0.97, 0.99)},
    "ties": Case(_tied),
    "rare losses": Case(_rare),
    "difference": Case(_difference, DIFFERENCE),
}


@dataclass(frozen=True)
class Gap:
    """The gap of five equal attackers with soft verdicts; the truth is theirs."""

    preferred: float

    @cached_property
    def case(self) -> Case:
        """One attacker's preferences."""
        return preference(self.preferred)

    def truth(self) -> float:
        """2 P - 1."""
        return 2 * self.case.truth() - 1

    def interval(self, prompts: int, rng: Generator) -> Interval:
        """The gap's interval, of one draw."""
        return gap([Attack(str(k), self.case.draw(prompts, rng).tolist()) for k in range(5)])["gap"]


@dataclass(frozen=True)
class Rating:
    """The better of two players, or the first of three, with one match of each two a prompt."""

    points: float
    players: int = 2

    def truth(self) -> float:
        """The first player's rating."""
        return 1000 + self.points * (1 - 1 / self.players)

    def interval(self, prompts: int, rng: Generator) -> Interval:
        """Its interval, of one draw in which nobody wins or loses everything."""
        strengths = np.array([self.points / SCALE, *np.zeros(self.players - 1)])
        pairs = [(i, j) for i in range(self.players) for j in range(i)]
        while True:
            won = np.array([rng.random(prompts) < expit(strengths[i] - strengths[j]) for i, j in pairs])
            if not ((won.all(1) | ~won.any(1)).any()):
                break
        names = [(f"p{i}", f"p{j}") for i, j in pairs for _ in range(prompts)]
        asked = [str(k) for k in range(prompts)] * len(pairs)
        rows = rate(make_matches(names, won.ravel().astype(float).tolist(), prompts=asked), resamples=300).rows
        first = next(row for row in rows if row.name == "p0")
        assert first.low is not None
        assert first.high is not None
        return Interval(first.rating, first.low, first.high)


@dataclass(frozen=True)
class EqualLengths:
    """The win rate at equal lengths of answers 1.55 times as long on average, of a judge of quality and length."""

    quality: float

    def draw(self, prompts: int, rng: Generator) -> tuple[Array, Array, Array]:
        """Verdicts, and the lengths of both."""
        lengths = rng.lognormal(6, 0.5, prompts)
        others = lengths / (1.55 * np.exp(0.3 * rng.normal(size=prompts)))
        chances = expit(self.quality + 1.5 * rng.normal(size=prompts) + 2 * np.log(lengths / others))
        return (rng.random(prompts) < chances).astype(float), lengths, others

    @cached_property
    def rate(self) -> float:
        """The regression's, on many prompts."""
        return length_controlled(*self.draw(100_000, np.random.default_rng(5)), resamples=1).rate.value

    def truth(self) -> float:
        """As `rate`."""
        return self.rate

    def interval(self, prompts: int, rng: Generator) -> Interval:
        """Its interval, of one draw whose verdicts differ and whose lengths tell model from length."""
        while True:
            drawn = self.draw(prompts, rng)
            if np.ptp(drawn[0]) and separable(*drawn[1:]):
                return length_controlled(*drawn, resamples=200).rate


DERIVED = {
    "gap, attackers at .6": Gap(0.6),
    "gap, attackers at .957": Gap(0.957),
    "rating, two players, 191 points apart": Rating(191),
    "rating, two players, 695 points apart": Rating(695),
    "rating, three players, 300 points apart": Rating(300, 3),
    "at equal lengths, near 1/2": EqualLengths(0.0),
    "at equal lengths, near .8": EqualLengths(2.0),
}


def measured(case: Case | Gap | Rating | EqualLengths, prompts: int, repeats: int) -> tuple[float, float]:
    """How often the interval holds the truth, and how often its low end is above it."""
    rng, truth = np.random.default_rng(prompts), case.truth()
    found = [case.interval(prompts, rng) for _ in range(repeats)]
    return float(np.mean([one.contains(truth) for one in found])), float(np.mean([one.low > truth for one in found]))


def rows(repeats: int) -> Iterator[list[str]]:
    """Rows of the table, one a case."""
    for name, case in {**CASES, **DERIVED}.items():
        times = repeats if isinstance(case, Case | Gap) else max(1, repeats // 4)
        covered, above = zip(*(measured(case, prompts, times) for prompts in PROMPTS), strict=True)
        yield [name, *(f"{100 * share:.1f}" for share in (*covered, max(above[1:])))]
        print(f"{name}: covered {covered}, above {above}", flush=True)


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=800)
    parser.add_argument("--show", action="store_true", help="print the numbers and write nothing")
    options = parser.parse_args()
    header = ["covered in %, of", *(f"{n} prompts" for n in PROMPTS), "low end above the truth, from 24 on"]
    lines = table(header, list(rows(options.repeats)))
    if not options.show:
        write_section(PAGE, SCRIPT, lines, "coverage")


if __name__ == "__main__":
    main()
