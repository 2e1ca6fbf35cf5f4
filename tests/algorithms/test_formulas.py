"""Every shipped algorithm's loss against its formula in plain arithmetic, and wrong losses, all to be noticed.

The formulas are written from the docs, on floats, and share nothing with the objectives. A mutant is a loss off by a
factor, a sign or an anchor; `check` must fail on each.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from sparring.algorithms.algorithm import SHIPPED, DataFacts, PolicyRef, build_algorithm, find_algorithm
from sparring.objectives.pairs import Batch, Loss, Objective

LOGPS = (-3.1, -4.0, -2.2)
LENGTHS = (2, 3, 4)
RATES = (0.7, 0.3, 0.45)
PREFERENCE = 0.8
REFERENCE, ITERATE = (-3.5, -3.2, -2.9), (-2.8, -4.4, -2.5)
OTHERS = ((-3.4, -3.9, -2.0),)


def ell(z: float) -> float:
    return math.log1p(math.exp(-z))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def lead(values: Sequence[float]) -> float:
    """D: the first less the second."""
    return values[0] - values[1]


def square(weights: Sequence[tuple[float, Sequence[float]]], step: float, label: float) -> float:
    """((D_policy - sum w D - step label) / step)^2."""
    return ((lead(LOGPS) - sum(w * lead(anchor) for w, anchor in weights) - step * label) / step) ** 2


def against(anchor: Sequence[float]) -> list[float]:
    """log-ratios to an anchor."""
    return [policy - a for policy, a in zip(LOGPS, anchor, strict=True)]


def response_squares(step: float) -> float:
    pairs = zip(against(ITERATE)[:2], RATES, strict=False)
    return sum((r - step * (rate - 0.5)) ** 2 for r, rate in pairs) / 2 / step**2


def approx_ndcg() -> float:
    scores, gains = [0.1 * r for r in against(REFERENCE)], [2**rate - 1 for rate in RATES]
    places = [1 + sum(sigmoid(-25 * (s - o)) for j, o in enumerate(scores) if j != i) for i, s in enumerate(scores)]
    best = sum(g / math.log2(2 + i) for i, g in enumerate(sorted(gains, reverse=True)))
    return sum(g / math.log2(1 + place) for g, place in zip(gains, places, strict=True)) / best


def odds(k: int) -> float:
    p = math.exp(LOGPS[k] / LENGTHS[k])
    return math.log(p / (1 - p))


def clipped(k: int, advantage: float) -> float:
    rho = math.exp(against(ITERATE)[k])
    return -min(advantage * rho, advantage * min(max(rho, 0.8), 1.2))


def kto() -> float:
    z, (good, bad, _) = max(0.0, against(REFERENCE)[2]), against(REFERENCE)
    return 1.5 * (1 - sigmoid(0.5 * (good - z))) + 0.5 * (1 - sigmoid(0.5 * (z - bad)))


def dpo_cov() -> float:
    """As the paper writes it: the noise of eq. 17 with the label's sign, and eq. 19."""
    z, label = 0.5 * (lead(LOGPS) - lead(REFERENCE)) + 0.2 * lead(LENGTHS), -1
    noise = label * max(0.0, math.log(1 / 0.3 - 1) - z)
    return 0.3 * abs(noise) - 0.5 * 0.3 * LOGPS[0] - math.log(sigmoid(z + label * noise))


def tpaw() -> float:
    """The winner is below the iterate, and above the policy before it."""
    scores = [[0.5 * r for r in against(player)] for player in (ITERATE, OTHERS[0])]
    weights = [math.exp(-0.7 * lead(s)) for s in scores]
    losses = [ell((4.0 if s[0] <= 0 else 1.0) * s[0] - s[1]) for s in scores]
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)


@dataclass(frozen=True)
class Case:
    """Settings, the formula's value, roles of the three responses, and names of the anchors in `OTHERS`."""

    fields: Mapping[str, Any]
    value: float
    roles: tuple[str, str, str] = ("own", "own", "own")
    others: tuple[str, ...] = ()
    triple: bool = False
    """pairs (0, 1) of term 0, and (0, 2), (1, 2) of term 1 and weight 1/2"""


def link(ratio: float) -> float:
    return math.exp(ratio) + ratio


f = against(ITERATE)
CASES: dict[str, Case] = {
    "spac": Case({}, (10 * ell(f[0] - f[1]) + ell(f[0] - f[2]) / 2 + ell(f[1] - f[2]) / 2) / 11, triple=True),
    "spin": Case({"alpha": 0.3, "beta": 0.5}, ell(0.5 * (lead(LOGPS) - 0.7 * lead(ITERATE) - 0.3 * lead(REFERENCE)))),
    "inpo": Case({"step_size": 2.0, "kl_to_reference": 0.1}, square([(0.2, REFERENCE), (0.8, ITERATE)], 2, 0.5)),
    "dpo": Case({"beta": 0.5}, ell(0.5 * (lead(LOGPS) - lead(REFERENCE)))),
    "ipo": Case({"kl_to_reference": 0.2}, square([(1.0, REFERENCE)], 5, 0.5)),
    "sppo": Case({"step_size": 5.0}, response_squares(5.0)),
    "comal": Case(
        {"step_size": 2.0, "kl_to_reference": 0.1},
        square([(0.2, OTHERS[0]), (0.8, ITERATE)], 2, 0.5),
        others=("moving_reference",),
    ),
    "onpo": Case({"step_size": 2.0}, square([(1.0, OTHERS[0])], 2, 0.5), others=("base",)),
    "egpo": Case({"step_size": 2.0}, square([(0.2, REFERENCE), (0.8, ITERATE)], 2, 0.5)),
    "nash_md": Case(
        {"pairing": "iid", "target": "soft"}, square([(0.125, REFERENCE), (0.875, ITERATE)], 1.25, PREFERENCE - 0.5)
    ),
    "mpo": Case(
        {"step_size": 2.0, "kl_to_magnet": 0.1},
        square([(1 / 6, OTHERS[0]), (5 / 6, ITERATE)], 5 / 3, 0.5),
        others=("magnet",),
    ),
    "mnpo": Case(
        {"step_size": 2.0, "kl_to_reference": 0.1},
        square([(0.2, REFERENCE), (0.4, ITERATE), (0.4, OTHERS[0])], 2, 0.5),
        others=("iterate_1_back",),
    ),
    "rspo": Case(
        {"step_size": 5.0, "reverse_kl": 0.5},
        response_squares(5.0) + 0.5 * sum(r * r for r in against(REFERENCE)[:2]) / 25,
    ),
    "opo": Case({"form": "approx"}, -approx_ndcg()),
    "chi_po": Case({"beta": 0.5}, ell(0.5 * (link(against(REFERENCE)[0]) - link(against(REFERENCE)[1])))),
    "dpo_cov": Case({"beta": 0.5, "noise_weight": 0.3, "pessimism": 0.3, "length_penalty": 0.2}, dpo_cov()),
    "simpo": Case({"beta": 2.0, "margin": 0.4}, ell(2 * (LOGPS[0] / 2 - LOGPS[1] / 3) - 0.4)),
    "cpo": Case({"beta": 0.5, "sft_weight": 0.7}, ell(0.5 * lead(LOGPS)) - 0.7 * LOGPS[0] / 2),
    "orpo": Case({"odds_weight": 0.3}, -LOGPS[0] / 2 + 0.3 * ell(odds(0) - odds(1))),
    "kto": Case(
        {"beta": 0.5, "desirable_weight": 1.5, "undesirable_weight": 0.5},
        kto(),
        roles=("desirable", "undesirable", "mismatched"),
    ),
    "xpo": Case(
        {"beta": 0.5, "optimism": 0.3},
        ell(0.5 * (lead(LOGPS) - lead(REFERENCE))) + 0.3 * LOGPS[1],
        roles=("own", "reference", "own"),
    ),
    "nash_prox": Case(
        {"step_size": 2.0, "kl_to_reference": 0.1},
        square([(1 / 6, REFERENCE), (5 / 6, OTHERS[0])], 5 / 3, 0.5),
        others=("centre",),
    ),
    "spo": Case({"clip": 0.2}, clipped(0, 0.5) + clipped(1, -0.5)),
    "dno": Case(
        {"beta": 0.5},
        sigmoid(lead(RATES)) * ell(0.5 * lead(f)) + sigmoid(-lead(RATES)) * ell(-0.5 * lead(f)),
    ),
    "rebel": Case({"step_size": 0.5}, square([(1.0, ITERATE)], 0.5, math.log(PREFERENCE / (1 - PREFERENCE)))),
    "space": Case({"noise_ratio": 2.0}, math.log1p(2 * math.exp(-f[0])) + 2 * math.log1p(math.exp(f[1]) / 2)),
    "tpaw": Case({"beta": 0.5, "team": 2, "target_weight": 4.0, "focus": 0.7}, tpaw(), others=("iterate_1_back",)),
    "grpo": Case(
        {"clip_low": 0.2, "clip_high": 0.2},
        sum(clipped(k, 2 * (rate - 0.5) / (2 * statistics.pstdev(RATES))) for k, rate in enumerate(RATES)) / 3,
    ),
    "t_spin": Case(
        {"beta": 0.5, "history_weight": 0.3},
        ell(0.5 * lead(LOGPS)) + 0.15 * (ell(0.5 * (LOGPS[0] - LOGPS[2])) + ell(0.5 * (LOGPS[1] - LOGPS[2]))),
        triple=True,
    ),
}


def batch_of(case: Case) -> Batch:
    """One example of three responses, float64."""

    def tensor(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    pairs = [[0, 1], [0, 2], [1, 2]] if case.triple else [[0, 1]]
    anchors = {"reference": REFERENCE, "iterate": ITERATE, **dict(zip(case.others, OTHERS, strict=False))}
    return Batch(
        logps_R=tensor(LOGPS),
        anchor_logps={name: tensor(values) for name, values in anchors.items()},
        lengths_R=torch.tensor(LENGTHS),
        example_R=torch.zeros(3, dtype=torch.long),
        roles=case.roles,
        win_rates_R=tensor(RATES),
        pairs_P2=torch.tensor(pairs),
        preference_P=tensor([PREFERENCE] * len(pairs)),
        weight_P=tensor([1.0, 0.5, 0.5][: len(pairs)]),
        term_P=torch.tensor([0, 1, 1][: len(pairs)]),
    )


def objective_of(name: str) -> Objective:
    algorithm = build_algorithm({"name": name, **CASES[name].fields})
    return algorithm.steps(3, DataFacts(100))[0].objective


def check(name: str) -> None:
    """The loss is its formula."""
    assert objective_of(name)(batch_of(CASES[name])).total.item() == pytest.approx(CASES[name].value, rel=1e-9)


def test_every_algorithm_has_a_formula() -> None:
    assert CASES.keys() == SHIPPED.keys()


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_its_formula(name: str) -> None:
    check(name)


AT_7: Mapping[str, PolicyRef] = {
    "reference": PolicyRef(0),
    "iterate": PolicyRef(7),
    "iterate_1_back": PolicyRef(6),
    **dict.fromkeys(("moving_reference", "magnet", "centre"), PolicyRef(6)),
}
"""who is meant by an anchor's name in round 7, where periods are 3"""


@pytest.mark.parametrize("name", CASES)
def test_anchors_are_the_policies_that_their_names_say(name: str) -> None:
    """The formulas are told an anchor's values; here it is the policy that the values are taken from."""
    period = {"period": 3} if "period" in find_algorithm(name).model_fields else {}
    first, *others = build_algorithm({"name": name, **CASES[name].fields, **period}).steps(7, DataFacts(100))
    for number, step in enumerate((first, *others)):
        meant = {**AT_7, "base": PolicyRef(7 + number, "base")}
        assert step.anchors == {anchor: meant[anchor] for anchor in step.anchors}
        assert step.objective == first.objective
    assert bool(first.anchors) == (name not in REFERENCE_FREE)


def rotated(batch: Batch) -> Batch:
    """The anchors' values under each other's names."""
    names = list(batch.anchor_logps)
    values = [batch.anchor_logps[name] for name in names]
    moved = dict(zip(names, [*values[1:], values[0]], strict=True))
    return replace(batch, anchor_logps=moved)


def with_a_reference(batch: Batch) -> Batch:
    """The mutant of losses that should have none."""
    return replace(batch, logps_R=batch.logps_R - batch.anchor_logps["reference"])


def reversed_sign(batch: Batch) -> Batch:
    """Winners and losers change places, in pairs, rates and labels."""
    sides = {"desirable": "undesirable", "undesirable": "desirable"}
    roles = tuple(sides.get(role, role) for role in batch.roles)
    return replace(batch, pairs_P2=batch.pairs_P2.flip(1), win_rates_R=1 - batch.win_rates_R, roles=roles)


def scaled(batch: Batch) -> Batch:
    """Every log-probability twice: beta off by 2, or half the target."""
    anchors = {name: 2 * values for name, values in batch.anchor_logps.items()}
    return replace(batch, logps_R=2 * batch.logps_R, anchor_logps=anchors)


MUTANTS: dict[str, Callable[[Batch], Batch]] = {
    "sign": reversed_sign,
    "beta twice": scaled,
    "anchor": rotated,
    "a reference": with_a_reference,
}
REFERENCE_FREE = {"simpo", "cpo", "orpo", "t_spin"}


@pytest.mark.parametrize("mutant", ["loss twice", *MUTANTS])
@pytest.mark.parametrize("name", CASES)
def test_wrong_losses_are_noticed(name: str, mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant == ("anchor" if name in REFERENCE_FREE else "a reference"):
        return
    kind = type(objective_of(name))
    right = kind.__call__

    def wrong(self: Objective, batch: Batch) -> Loss:
        loss = right(self, MUTANTS[mutant](batch) if mutant in MUTANTS else batch)
        return replace(loss, total=2 * loss.total) if mutant == "loss twice" else loss

    monkeypatch.setattr(kind, "__call__", wrong)
    with pytest.raises(AssertionError):
        check(name)
