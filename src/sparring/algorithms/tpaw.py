"""TPAW (2605.09922): SPIN with a team of recent policies, which sample and judge, and two adaptive weights.

Gold answers y against samples y' of the last three policies. With P_j(y) = beta log pi(y)/pi_j(y) for each policy j of
the team and ell(z) = -log sigmoid(z), a pair's loss is

    sum_j b_j ell( a_j P_j(y) - P_j(y') ),    b = softmax over j of -gamma (P_j(y) - P_j(y'))

with a_j = eta > 1 where P_j(y) <= 0, so that gold answers which have become unlikelier count more, and 1 elsewhere. The
loss is transcribed from a public note on the paper. For eta > 1 the data policy is not reached: training stops where no
two answers' ratios data/pi differ by more than the factor eta [derived for a team of one]. Leaves out: samples kept
from earlier rounds; every round draws its own from the same policies.

    TPAW(team=3).steps(t=4, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, Algorithm, Column, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.pairing import Against
from sparring.objectives.self_play import TeamLogistic


class TPAW(Algorithm):
    """TPAW's fields; eta, gamma and the team are the paper's, beta is SPIN's."""

    about = About(
        "TPAW",
        "2605.09922",
        "each of the last iterates",
        samples="the last iterates",
        pairing="gold against own",
        loss="pair logistics, weighted by policy",
        needs="prompts with gold answers",
    )
    symbols: ClassVar = {
        "lambda": Symbol("beta"),
        "eta": Symbol("target_weight"),
        "gamma": Symbol("focus"),
    }
    on_games: ClassVar = {"beta": 1.0}
    solves = "unknown"

    beta: float = Field(default=0.1, gt=0)
    """the paper's lambda, whose value is not known to us: scale of the log-ratios"""
    team: int = Field(default=3, ge=1)
    """how many of the last policies sample, and are anchors; fewer in the first rounds"""
    target_weight: float = Field(default=6.0, ge=1)
    """eta: factor on a gold answer's log-ratio where it is not positive; 1 switches it off"""
    focus: float = Field(default=0.5, ge=0)
    """gamma: how much more the policies with small margins weigh; 0 weighs all alike"""
    samples: int = Field(default=1, ge=1)
    """responses per prompt and round, each from a policy of the team drawn at random"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step; no oracle is asked."""
        recent = range(min(self.team, t + 1))
        anchors = {"iterate" if back == 0 else f"iterate_{back}_back": PolicyRef(t - back) for back in recent}
        draw = Draw("own", self.samples, dict.fromkeys(anchors.values(), 1.0 / len(anchors)))
        objective = TeamLogistic(tuple(anchors), self.beta, self.target_weight, self.focus)
        return (Step(PolicyRef(t), (Column("gold"), draw), Against("gold", "own"), objective, anchors),)
