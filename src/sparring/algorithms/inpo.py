"""INPO, Iterative Nash Policy Optimization (2407.00617): no-regret self-play to a Nash policy.

Each round draws K responses from the iterate, pairs them, and regresses the policy's pair
margin towards that of the mirror-descent step

    pi_{t+1}(y) ~ exp( P(y > pi_t) / eta ) ref(y)^(tau/eta) pi_t(y)^(1 - tau/eta)

The paper's eta is an inverse step: step_size = 1/eta; its tau is `kl_to_reference`. Selection
(best-worst, knockout) breaks the i.i.d. premise of its Prop. 6; i.i.d. pairs keep it. Leaves out:
the oracle (any will do).

    INPO(step_size=3.0, kl_to_reference=0.1, pairing="iid").steps(t=0, facts=Facts(100))
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, About, Algorithm, Draw, Facts, PolicyRef, Step
from sparring.objectives import PairSquare, Target
from sparring.pairing import AllPairs, BestWorst, IndependentPairs, Knockout, Pairing

PairingName = Literal["iid", "best_worst", "knockout", "all"]
PAIRINGS: dict[str, Pairing] = {
    "iid": IndependentPairs(),
    "best_worst": BestWorst(),
    "knockout": Knockout(),
    "all": AllPairs(),
}


def check_pairing(pairing: str, samples: int) -> None:
    """Raise a ValueError that names both fields when the count does not suit the pairing."""
    if samples < 2:
        raise ValueError(f"samples = {samples} with pairing = {pairing!r}: a pair needs samples >= 2.")
    if pairing == "iid" and samples % 2:
        raise ValueError(f"samples = {samples} with pairing = 'iid': give an even number of samples.")
    if pairing == "knockout" and samples & (samples - 1):
        raise ValueError(
            f"samples = {samples} with pairing = 'knockout': give a power of two (4, 8, 16), or pairing: best_worst."
        )


class INPO(Algorithm):
    """INPO's fields; defaults are the paper's (section 5 and its appendix)."""

    about: ClassVar[About] = About(
        "INPO",
        "2407.00617",
        "reference tau/eta, iterate 1 - tau/eta",
        "iterate, K per prompt",
        "knockout, best-worst, i.i.d. or all pairs",
        "pair square",
        "prompts and an oracle",
    )

    step_size: float = Field(default=200.0, gt=0)
    """1/eta: how far one round moves, in nats of log-ratio per unit of win rate"""
    kl_to_reference: float = Field(default=1.0 / 600.0, ge=0)
    """tau: weight of KL(policy || reference) against the win rate; 0 removes the reference"""
    schedule: Literal["fixed", "theorem"] = "fixed"
    """theorem: eta_t = tau (t + 2) / 2 (Theorem 4), which needs kl_to_reference > 0; step_size is not used"""
    samples: int = Field(default=8, ge=1)
    """K, responses per prompt and round"""
    pairing: PairingName = "knockout"
    """how K judged responses become pairs"""
    target: Target = "hard"
    """hard: the verdict; soft: the oracle's probability; win_rate: difference of empirical win rates"""
    unit_loss: bool = True
    """divide the loss by step_size^2 (same minimiser); false is the paper's scale"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_pairing(self.pairing, self.samples)
        if self.schedule == "theorem" and self.kl_to_reference == 0:
            raise ValueError("kl_to_reference = 0 with schedule = 'theorem': eta_t would be 0; give tau > 0.")
        if self.schedule == "fixed" and self.kl_to_reference * self.step_size > 1:
            raise ValueError(
                f"kl_to_reference = {self.kl_to_reference} (tau) exceeds 1 / step_size = "
                f"{1 / self.step_size:.6g} (eta): the iterate's weight 1 - tau/eta would be negative. "
                "Lower kl_to_reference or step_size."
            )
        if self.target == "win_rate" and self.pairing == "knockout":
            raise ValueError(
                "target = 'win_rate' with pairing = 'knockout': a knockout compares too few pairs for win "
                "rates; use pairing: best_worst, all or iid."
            )
        return self

    def step_size_at(self, t: int) -> float:
        """The step of round t: fixed, or 2 / (tau (t + 2))."""
        return self.step_size if self.schedule == "fixed" else 2.0 / (self.kl_to_reference * (t + 2))

    def steps(self, t: int, facts: Facts) -> tuple[Step, ...]:
        """One step: sample, judge, pair, fit the pair square."""
        step_size = self.step_size_at(t)
        rho = self.kl_to_reference * step_size
        iterate = PolicyRef(t)
        objective = PairSquare({"reference": rho, "iterate": 1.0 - rho}, step_size, self.target, self.unit_loss)
        return (
            Step(
                start=iterate,
                responses=(Draw("own", self.samples, {iterate: 1.0}),),
                judged=True,
                pairing=PAIRINGS[self.pairing],
                anchors={"reference": REFERENCE, "iterate": iterate},
                objective=objective,
            ),
        )
