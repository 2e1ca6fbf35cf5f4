"""The interface of an algorithm, and the table of those that Sparring ships.

An algorithm is a frozen pydantic model: its fields are the keys of a recipe's `algorithm:` section,
and `steps(t, data)` is a pure function of the round number, so a resumed run needs no hidden
state. A step names who samples, who judges, how pairs are made, what the loss is anchored to and
which objective is fitted; every other part of Sparring is blind to which algorithm runs. Leaves
out: doing any of it (`rounds/`), and the mathematics (`objectives/pairs.py`, `pairing.py`).

    build_algorithm({"name": "inpo", "step_size": 50}).steps(0, DataFacts(num_examples=100))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from sparring.algorithms.pairing import Pairing
from sparring.games.game import Array, Game
from sparring.objectives.pairs import Objective
from sparring.runtime.imports import find_class


class PolicyRef(NamedTuple):
    """A frozen policy: what `seat` was at the start of `round`; (0, "play") is the reference."""

    round: int
    seat: str = "play"

    def __str__(self) -> str:
        return f"{self.round}/{self.seat}"

    @property
    def title(self) -> str:
        """What people call it: the start, policy 1 (of the first round), or another seat's."""
        name = f"policy {self.round}" if self.round else "start"
        return name if self.seat == "play" else f"{name}, {self.seat}"


REFERENCE = PolicyRef(0)


class Draw(NamedTuple):
    """Responses to be sampled: `count` per prompt, under a role name.

    One policy, or a mixture with weights: arithmetic (each response comes from one policy, chosen
    with its weight) or token-geometric (next-token log-probabilities are averaged and renormalised
    at every token; this is not the sequence-level mixture of the theory).
    """

    role: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    policies: Mapping[PolicyRef, float]
    mixture: Literal["arithmetic", "token_geometric"] = "arithmetic"


class Column(NamedTuple):
    """A response that the data already hold: `chosen`, `rejected` or `gold`; or, of unpaired data, one of `desirable`
    and `undesirable`, and `mismatched`, an answer to another prompt."""

    role: str


class Reuse(NamedTuple):
    """The judged pairs of an earlier step of the same round."""

    step: int


@dataclass(frozen=True, slots=True)
class Step:
    """One fit: responses, who compares them, pairs, anchors and the loss."""

    start: PolicyRef
    """whose weights the fit starts from"""
    responses: tuple[Draw | Column, ...] | Reuse
    pairing: Pairing
    objective: Objective
    anchors: Mapping[str, PolicyRef]
    """by the name that the objective uses"""
    judged: bool = False
    """whether the pairing asks the preference oracle; False for SPAC and SPIN"""
    given_preferences: bool = False
    """whether it asks the data instead: how sure each pair of chosen and rejected is"""
    trains: str = "play"
    """the seat that this step produces; "play" is the policy of the next round"""

    def __post_init__(self) -> None:
        roles = [response.role for response in self._sources()]
        if len(set(roles)) < len(roles):
            raise ValueError(
                f"a step's responses have the roles {roles}: each Draw and Column needs a role of its own."
            )

    def _sources(self) -> tuple[Draw | Column, ...]:
        return () if isinstance(self.responses, Reuse) else self.responses

    def draws(self) -> tuple[Draw, ...]:
        """The responses that must be sampled."""
        return tuple(r for r in self._sources() if isinstance(r, Draw))

    def columns(self) -> tuple[str, ...]:
        """The roles that the data must hold."""
        return tuple(r.role for r in self._sources() if isinstance(r, Column))


class DataFacts(NamedTuple):
    """The part of a run's data that a step may depend on: it does not change between rounds."""

    num_examples: int
    """training examples in the whole data set"""


ANY_DATA = DataFacts(num_examples=1)
"""where only a step's shape is asked for (its seats, roles, policies), which does not depend on the data"""


class Symbol(NamedTuple):
    """A field that a paper calls by another name, and whether the paper's number is its inverse."""

    field: str
    inverse: bool = False


class About(NamedTuple):
    """A row of `sparring algorithms`."""

    title: str
    paper: str
    anchors: str
    samples: str = "iterate, K per prompt"
    pairing: str = "any"
    loss: str = "pair square"
    needs: str = "prompts and an oracle"


class Algorithm(BaseModel):
    """Base of every algorithm: a frozen configuration that knows its steps.

    A subclass in any importable module can be named in a recipe as `package.module:Class`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    about: ClassVar[About]
    symbols: ClassVar[Mapping[str, Symbol]] = {}
    """the paper's own symbols, for `sparring certify --set`"""
    on_games: ClassVar[Mapping[str, Any]] = {}
    """fields at the scale of exact games; the fields' own defaults are at the scale of language models"""
    solves: ClassVar[Literal["nash", "regularised", "data", "unknown"]] = "nash"
    """what it should converge to: a Nash policy, the Nash policy regularised to the reference, or the data policy;
    unknown: none of them is claimed, and no target is shown"""

    exact_is_aim: ClassVar[bool] = False
    """`exact_step` is the update that the loss aims at, and the loss's own minimum is another policy"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """The fits of round t, in order; the last must train the seat "play"."""
        raise NotImplementedError

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """The population update in closed form, for exact games.

        `history` holds the log-policies (C, n) of rounds 0..t; the result is that of round t + 1, or None where there
        is no closed form.
        """
        return None

    def regularisation(self) -> float | None:
        """tau of the regularised game that it solves on exact games, 0 for the plain one, None if it solves neither."""
        if self.solves == "regularised":
            return float(getattr(self, "kl_to_reference", 0.0))
        return None if self.solves == "unknown" else 0.0

    def base_weight(self) -> float | None:
        """w, where an algorithm that imitates data converges to base^w data^(1 - w), normalised; None: not known."""
        return 0.0

    def oldest_iterate(self, t: int) -> int:
        """The oldest round whose policy round t needs, besides the reference; older ones may be deleted."""
        steps = self.steps(t, ANY_DATA)
        drawn = {ref for step in steps for draw in step.draws() for ref in draw.policies}
        refs = drawn | {ref for step in steps for ref in (step.start, *step.anchors.values())}
        return min([t, *(ref.round for ref in refs if ref != REFERENCE)])


SHIPPED = {
    "spac": "sparring.algorithms.spac:SPAC",
    "spin": "sparring.algorithms.spin:SPIN",
    "inpo": "sparring.algorithms.inpo:INPO",
    "dpo": "sparring.algorithms.dpo:DPO",
    "ipo": "sparring.algorithms.ipo:IPO",
    "sppo": "sparring.algorithms.sppo:SPPO",
    "comal": "sparring.algorithms.comal:COMAL",
    "onpo": "sparring.algorithms.onpo:ONPO",
    "egpo": "sparring.algorithms.egpo:EGPO",
    "nash_md": "sparring.algorithms.nash_md:NashMD",
    "mpo": "sparring.algorithms.mpo:MPO",
    "mnpo": "sparring.algorithms.mnpo:MNPO",
    "rspo": "sparring.algorithms.rspo:RSPO",
    "opo": "sparring.algorithms.opo:OPO",
    "chi_po": "sparring.algorithms.chi_po:ChiPO",
    "dpo_cov": "sparring.algorithms.dpo_cov:DPOCOV",
    "simpo": "sparring.algorithms.simpo:SimPO",
    "cpo": "sparring.algorithms.cpo:CPO",
    "orpo": "sparring.algorithms.orpo:ORPO",
    "kto": "sparring.algorithms.kto:KTO",
    "xpo": "sparring.algorithms.xpo:XPO",
    "nash_prox": "sparring.algorithms.nash_prox:NashProx",
    "spo": "sparring.algorithms.spo:SPO",
    "dno": "sparring.algorithms.dno:DNO",
    "rebel": "sparring.algorithms.rebel:REBEL",
    "space": "sparring.algorithms.space:SPACE",
    "t_spin": "sparring.algorithms.t_spin:TSPIN",
    "tpaw": "sparring.algorithms.tpaw:TPAW",
    "grpo": "sparring.algorithms.grpo:GRPO",
}
"""Name in a recipe -> where the class is. Yours needs no entry: write `package.module:Class`."""


def find_algorithm(name: str) -> type[Algorithm]:
    """The class named in a recipe: a shipped name, or `package.module:Class`.

    Raises:
        ValueError: unknown name (with the nearest one), or nothing of that kind can be imported.
    """
    return find_class(name, SHIPPED, "algorithm", Algorithm)


def build_algorithm(section: Mapping[str, Any]) -> Algorithm:
    """An algorithm from a recipe's `algorithm:` section (its name and fields)."""
    fields = dict(section)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"algorithm.name: missing. Give one of {', '.join(SHIPPED)}.")
    return find_algorithm(name).model_validate(fields)
