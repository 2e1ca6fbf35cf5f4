"""Which attackers are worth further verdicts: a race, in which dominated ones drop out after a look at the verdicts.

All attackers answer the first prompts. After each look those go on that may still decide an end of the gap's interval.
What the choices cost is paid in the intervals, so that any rule of choosing leaves them valid:

    low   max over attackers of its lower end at level tail_l / M, l the look at which it dropped out (M attackers)
    high  max over attackers of its upper end at level tail_l
    sum over looks of tail_l = 2.5 %: each of the earlier looks has an equal share of EARLY, the last one the rest

`low` is above the largest gain only if one of M x L ends misses, `high` below it only if one of the L ends of the truly
strongest attacker does: 2.5 % each at most (Bonferroni), whoever was chosen and why. The estimate scores each prompt
with an attacker that was chosen on other prompts, so the gain of noise is 0 on average. With a budget the number of
prompts is fixed before anything is asked, and the weakest drop out where the rest could not be paid. The prompts'
order must be random. Leaves out: asking (`contests/looks.py`).

    race = plan_race(cost_NP, budget=None); kept, dropped = race.choose(0, attacks, cost_NP)

Shape suffixes: N prompts, P policies, M attackers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from sparring.evaluation.duality_gap import cross_fitted
from sparring.evaluation.exploitability import FEWEST, Attack
from sparring.evaluation.intervals import SHARE, TAIL, Interval, interval, known_mean

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Design = Literal["uniform", "adaptive"]
LOOKS = (0.125, 0.25, 0.4, 0.6, 0.8)
"""shares of the prompts after which it is looked at"""
FIRST = 8
"""prompts below which nothing is looked at"""
EARLY = 0.1
"""of the chance to miss, spent on the looks before the last"""
MARGIN = 0.5
"""of the interval that the leader will have at the end: who cannot reach so far above its estimate drops out"""
PLANNED = 0.6
"""of the uniform design's verdicts: a budget is spread over as many prompts as that leaves"""


class Dropped(TypedDict):
    """A policy that dropped out, and why."""

    policy: int
    why: Literal["dominated", "budget"]
    high: float
    """the upper end of its strongest attack's preference"""
    bar: float
    """what it had to reach; without meaning for "budget" """


class Choice(TypedDict):
    """What was chosen at a look."""

    prompts: int
    """that were asked up to then"""
    kept: list[int]
    dropped: list[Dropped]


@dataclass(frozen=True, slots=True)
class Race:
    """Numbers of prompts at each look, the last being all that are asked; and the verdicts that may be spent."""

    looks: tuple[int, ...]
    budget: int | None = None

    @property
    def tails(self) -> list[float]:
        """Chance to miss on either side, spent at each look."""
        early = len(self.looks) - 1
        return [*[EARLY * TAIL / early] * early, (1 - EARLY) * TAIL] if early else [TAIL]

    def choose(
        self, look: int, attacks: Mapping[int, Sequence[Attack]], cost_NP: Counts, spent: int = 0
    ) -> tuple[list[int], list[Dropped]]:
        """The policies that go on after a look, strongest first, and those that drop out.

        Args:
            attacks: of each policy in the race, on the prompts up to this look.
            cost_NP: verdicts that each prompt and policy costs.
            spent: verdicts so far.
        """
        tail, prompts = self.tails[look], self.looks[look]
        tops = {policy: _top([_upper(attack, tail) for attack in own]) for policy, own in attacks.items()}
        order = sorted(tops, key=lambda policy: (-tops[policy].value, policy))
        leader = tops[order[0]]
        bar = leader.value + MARGIN * (leader.high - leader.value) * (prompts / self.looks[-1]) ** 0.5
        kept = [policy for policy in order if policy == order[0] or tops[policy].high > bar]
        paid = kept if self.budget is None else self._affordable(look, kept, cost_NP, self.budget - spent)
        dropped: list[Dropped] = [
            {
                "policy": policy,
                "why": "budget" if policy in kept else "dominated",
                "high": tops[policy].high,
                "bar": bar,
            }
            for policy in order
            if policy not in paid
        ]
        return paid, dropped

    def _affordable(self, look: int, kept: Sequence[int], cost_NP: Counts, left: int) -> list[int]:
        """The first of `kept` that can be paid up to the next look, half of them (one at least) to the end."""
        begin, end = self.looks[look], self.looks[look + 1]
        paid: list[int] = []
        for policy in kept:
            tried = [*paid, policy]
            rest_P = cost_NP[end : self.looks[-1], tried].sum(0)
            if paid and cost_NP[begin:end, tried].sum() + max(rest_P.sum() / 2, rest_P.max()) > left:
                break
            paid = tried
        return paid


def plan_race(cost_NP: Counts, budget: int | None = None, design: Design = "adaptive") -> Race:
    """The looks of a race over N prompts; a uniform design has one, at its end.

    Args:
        cost_NP: verdicts that each prompt and policy costs, in the order in which prompts are asked.
        budget: verdicts at most; then the race may end at an earlier prompt.

    Raises:
        ValueError: the budget is too small for FEWEST prompts.
    """
    prompts = len(cost_NP)
    if budget is None:
        return Race(_looks(prompts, design))
    for n in range(prompts, min(FEWEST, prompts) - 1, -1):
        looks = _looks(n, design)
        if _least_cost(cost_NP, looks) <= budget:
            return Race(looks, budget)
    fewest = min(FEWEST, prompts)
    raise ValueError(
        f"--verdicts {budget}: too few. {fewest} prompts of the {design} design need "
        f"{_least_cost(cost_NP, _looks(fewest, design))}, and fewer conclude nothing. Give more verdicts, fewer "
        "attackers, or fewer answers (--samples)."
    )


def _looks(prompts: int, design: Design) -> tuple[int, ...]:
    early = {round(share * prompts) for share in LOOKS if share * prompts >= FIRST} if design == "adaptive" else set()
    return (*sorted(early), prompts)


def _least_cost(cost_NP: Counts, looks: Sequence[int]) -> int:
    """What a budget must hold: PLANNED of all, and all policies to the first look and the dearest to the end."""
    first, end = looks[0], looks[-1]
    share = PLANNED if len(looks) > 1 else 1.0
    return max(math.ceil(share * cost_NP[:end].sum()), int(cost_NP[:first].sum() + cost_NP[first:end].sum(0).max()))


def _upper(attack: Attack, tail: float) -> Interval:
    """An attack's mean and interval; everything is possible of one without a verdict."""
    known = _known(attack.preferences)
    return interval(known, SHARE, tail) if known else Interval(0.5, 0.0, 1.0)


def _top(attempts: Sequence[Interval]) -> Interval:
    """The highest value, and the highest ends, of a policy's attacks."""
    return Interval(*(max(getattr(one, end) for one in attempts) for end in ("value", "low", "high")))


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not np.isnan(value)]


def raced_gap(race: Race, attempts: Mapping[int, Sequence[Attack]], choices: Sequence[Choice]) -> dict[str, Any]:
    """As `exploitability.gap`, of attacks that were asked as `choices` say; NaN where nothing was asked.

    Each attacker has `prompts`, up to which it was asked.

    Raises:
        ValueError: nothing was judged.
    """
    last = {policy: _last_look(race, policy, choices) for policy in attempts}
    entered = [(attack, last[policy]) for policy, own in attempts.items() for attack in own]
    judged = [(attack, look) for attack, look in entered if _known(attack.preferences)]
    if not judged:
        raise ValueError("the judge gave no preference at all, so there is no gap to measure.")
    rows, highs = [], []
    for attack, look in judged:
        known, tail = _known(attack.preferences), race.tails[look]
        together = interval(known, SHARE, tail / len(judged))
        rows.append({"attacker": attack.name, "preference": together, "prompts": race.looks[look]})
        highs.append(interval(known, SHARE, tail).high)
    scored = _scores(race, judged)
    if not len(scored):
        raise ValueError("no attacker was judged in both halves of the prompts (1st, 3rd, .. and 2nd, ..): give more.")
    value, best = float(2.0 * scored.mean() - 1.0), max(row["preference"].low for row in rows)
    return {
        "gap": Interval(value, 2.0 * best - 1.0, 2.0 * max(highs) - 1.0).stretched(value),
        "strongest": sorted(row["attacker"] for row in rows if row["preference"].low == best),
        "attackers": sorted(rows, key=lambda row: -row["preference"].value),
        "prompts": race.looks[-1],
        "judged": len(scored),
    }


def _last_look(race: Race, policy: int, choices: Sequence[Choice]) -> int:
    """The look up to which a policy was asked."""
    return next((k for k, choice in enumerate(choices) if policy not in choice["kept"]), len(race.looks) - 1)


def _scores(race: Race, judged: Sequence[tuple[Attack, int]]) -> Array:
    """Each prompt's score, of an attacker chosen on other prompts, without those that have no verdict.

    Up to the first look it is the strongest on the other half, as in `cross_fitted`; then the strongest on all prompts
    before the look, which was in the race on the prompts after it.
    """
    attacks_NM = np.array([attack.preferences for attack, _ in judged], dtype=np.float64).T
    scores = [cross_fitted(attacks_NM[: race.looks[0]])]
    for look, (begin, end) in enumerate(zip(race.looks[:-1], race.looks[1:], strict=True)):
        runs = [m for m, (_, last) in enumerate(judged) if last > look]
        means = [known_mean(attacks_NM[:begin, m]) for m in runs]
        leader = runs[int(np.argmax(np.nan_to_num(means, nan=-1.0)))]
        scores.append(attacks_NM[begin:end, leader])
    found = np.concatenate(scores)
    return found[~np.isnan(found)]
