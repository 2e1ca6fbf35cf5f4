"""The recipe: everything a run needs, checked before any work starts.

A recipe is a YAML file. Checks across fields name both. Leaves out: the sections (`sections.py`), and the own fields of
the algorithm and the oracle, which their classes check.

    recipe = load_recipe("recipes/demo.yaml", ["rounds=1", "fit.learning_rate=1e-5"])
"""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from sparring.algorithms.algorithm import ANY_DATA, Algorithm, DataFacts, PolicyRef, Reuse, Step, build_algorithm
from sparring.algorithms.pairing import AgainstBaseline, Knockout
from sparring.environments.environment import build_environment
from sparring.objectives.responses import DESIRABLE
from sparring.recipe.sections import (
    DataConfig,
    EvaluationConfig,
    FitConfig,
    Frozen,
    ModelConfig,
    SamplingConfig,
    Section,
    TrackerConfig,
)
from sparring.runtime.layout import evaluated_rounds
from sparring.runtime.words import counted

FEW_STEPS = 10
"""optimiser steps of a round below which a warning is due"""


def plays_roles(step: Step) -> bool:
    """Whether a step's responses are the judged samples of one policy, which may play the roles of an environment."""
    match step.draws():
        case (draw,):
            return step.judged and not step.columns() and len(draw.policies) == 1
    return False


class Recipe(Frozen):
    """A whole run."""

    model: ModelConfig
    data: DataConfig
    algorithm: Section
    """name, and the algorithm's own fields"""
    oracle: Section | None = None
    """name, and the oracle's own fields; null for algorithms that ask none (evaluation then has no judge)"""
    environment: Section | None = None
    """name, and the environment's own fields: roles of one model play episodes, whose rewards stand in for an oracle"""
    partners: dict[str, Literal["start"]] = Field(default_factory=dict)
    """roles of the environment that are not trained, and who plays them: the start"""
    rounds: int = Field(default=3, ge=1)
    """rounds of self-play"""
    seed: int = Field(default=0, ge=0)
    """every random choice derives from it"""
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    fit: FitConfig = Field(default_factory=FitConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    keep_iterates: int | Literal["all"] = "all"
    """how many past policies stay on disk besides the start and the last; evaluation plays those that stay"""
    keep_every: int | None = Field(default=None, ge=1)
    """of the older ones, the policy after every so many rounds stays too; null: none"""
    warm: bool = False
    """keep models, judges and vLLM in memory between stages: small rounds take less time, memory is for all at once;
    the same results"""
    judge_while_sampling: bool | None = None
    """have a judge behind a URL read the responses to a prompt while others are sampled; the same results; null: unless
    the judge is on this machine"""
    trackers: list[TrackerConfig] = Field(default_factory=list)
    """where numbers are sent besides the run's own files"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        algorithm = self.build_algorithm()
        span = max(t - algorithm.oldest_iterate(t) for t in range(self.rounds))
        if self.keep_iterates != "all" and self.keep_iterates < span:
            raise ValueError(
                f"keep_iterates = {self.keep_iterates}, but the algorithm needs the last {span} iterates in "
                f"round {self.rounds - 1}: give keep_iterates: all or at least {span}."
            )
        if self.keep_every is not None and self.keep_iterates == "all":
            raise ValueError(
                f"keep_every = {self.keep_every} with keep_iterates = 'all', which keeps every policy anyway: set "
                "keep_iterates: 0, or remove keep_every."
            )
        steps = [step for steps in self.steps() for step in steps]
        self._check_moments()
        if self.environment is not None:
            self._check_environment(steps)
        elif self.partners:
            raise ValueError("partners: only an environment has roles. Give environment: {name: ...}.")
        elif any(isinstance(step.pairing, AgainstBaseline) for step in steps):
            raise ValueError(
                f"algorithm.baseline = {self.algorithm['baseline']!r} without an environment: an oracle gives win "
                "rates of siblings, and no rewards. Set baseline: group."
            )
        elif self.asks_oracle() and self.oracle is None:
            asks = "data.collect" if self.data.collect else f"algorithm {self.algorithm['name']!r}"
            raise ValueError(f"oracle: missing, but {asks} asks for preferences. Give oracle: {{name: ...}}.")
        judged = [draw for step in steps if step.judged for draw in step.draws()]
        if self.sampling.temperature == 0 and (self.data.collect or any(draw.count > 1 for draw in judged)):
            raise ValueError(
                "sampling.temperature = 0 makes all responses to a prompt the same, but pairs need different ones: "
                "give a temperature above 0."
            )
        mixed = [draw for step in steps for draw in step.draws() if draw.mixture == "token_geometric"]
        if self.sampling.engine != "transformers" and any(len(draw.policies) > 1 for draw in mixed):
            raise ValueError(
                f"sampling.engine = {self.sampling.engine!r} with algorithm {self.algorithm['name']!r}, which samples "
                "a token-geometric mixture: that needs several policies' next-token distributions at every token, "
                "and a served engine gives one policy's. Set sampling.engine: transformers."
            )
        if self.data.collect is not None and not {"chosen", "rejected"} <= set(self.columns()):
            raise ValueError(
                f"data.collect builds chosen and rejected, but algorithm {self.algorithm['name']!r} does not "
                "use them: remove data.collect, or set source: pairs."
            )
        self._check_label_fields()
        if self.data.teacher is not None and "gold" not in self.columns():
            raise ValueError(
                f"data.teacher answers in place of gold, but algorithm {self.algorithm['name']!r} does not use gold "
                "answers: remove data.teacher, or take an algorithm that does (spin)."
            )
        if self.model.lora is not None and self.model.lora.quantize is not None:
            self._check_quantized()
        evaluation, judged = self.evaluation, self.oracle or self.environment or self.evaluation.oracles
        if evaluation.patience is not None and evaluation.best_by != "checks" and not judged:
            raise ValueError(
                f"evaluation.patience = {evaluation.patience} with best_by = {evaluation.best_by!r}, but nobody "
                "judges: there is no oracle, and evaluation.oracles is empty. Give one, or set best_by: checks."
            )
        names = [opponent.name for opponent in evaluation.opponents]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluation.opponents: the names {names} are not all different.")
        return self

    def _check_moments(self) -> None:
        """Refuse moments of a policy that the next fit does not start from."""
        if not self.fit.keep_optimizer:
            return
        for t, steps in enumerate(self.steps()):
            for step in steps:
                if t > 0 and step.start != PolicyRef(t, step.trains):
                    raise ValueError(
                        f"fit.keep_optimizer = true with algorithm {self.algorithm['name']!r}, whose fit in round "
                        f"{t + 1} starts from {step.start.title} and not from the policy of the fit before it: the "
                        "moments would be another policy's. Set fit.keep_optimizer: false."
                    )

    def _check_label_fields(self) -> None:
        """Refuse fields of data sets that this method reads nothing by."""
        name, soft = self.algorithm["name"], self.uses_given_preferences() and self.data.collect is None
        unpaired = DESIRABLE in self.columns()
        for place, config in {**self.data.training_sets(), "held_out": self.data.held_out}.items():
            held = place == "held_out"
            if config.threshold is not None and (held or not unpaired):
                takes = "is for the training rows of kto" if held else f"with algorithm {name!r}: only kto uses it"
                raise ValueError(f"data.{place}.threshold = {config.threshold:g} {takes}. Remove it.")
            if config.margin_scale != 1 and (held or not soft):
                needs = "is for training rows" if held else "is used by algorithm.soft_labels: true with source: pairs"
                raise ValueError(f"data.{place}.margin_scale = {config.margin_scale:g} {needs}. Remove it.")

    def _check_quantized(self) -> None:
        """Refuse an engine that would ignore the 4 bits of the base, and sharding, which cannot cut them."""
        if self.sampling.engine != "transformers":
            raise ValueError(
                f"model.lora.quantize with sampling.engine = {self.sampling.engine!r}, which would sample from the "
                "unquantised base: another policy than the one that is trained. Set sampling.engine: transformers."
            )
        if self.fit.shard_weights:
            raise ValueError(
                "model.lora.quantize with fit.shard_weights: 4-bit weights are not cut over devices. Remove one of the "
                "two."
            )

    def _check_environment(self, steps: list[Step]) -> None:
        """Refuse what does not go with rewards of episodes."""
        environment = build_environment(self.environment or {})
        roles, name = environment.roles, self.algorithm["name"]
        if environment.asks_oracle and self.oracle is None:
            raise ValueError(
                "oracle: missing, but the environment asks one for its verdicts. Give oracle: {name: ...}, or let a "
                "role judge (environment.judge: model)."
            )
        oracle = None if environment.asks_oracle else self.oracle
        if oracle is not None or self.evaluation.oracles or self.evaluation.opponents:
            raise ValueError(
                "environment with an oracle or evaluation.opponents: the environment's rewards are the preferences, "
                "and policies are measured by them. Remove oracle, evaluation.oracles and evaluation.opponents."
            )
        if unknown := sorted(self.partners.keys() - set(roles)):
            raise ValueError(f"partners: {unknown} are no roles of the environment, which has {list(roles)}.")
        if not (trained := self.trained_roles()):
            raise ValueError("partners: every role has one, so none is trained. Leave at least one role out.")
        played = [step for step in steps if not isinstance(step.responses, Reuse)]
        if any(not plays_roles(step) for step in played):
            raise ValueError(
                f"environment with algorithm {name!r}, which needs more than the rewarded replies of one policy in the "
                f"roles {list(trained)}. Take one that has one policy's samples judged, such as inpo, sppo or grpo."
            )
        if any(isinstance(step.pairing, Knockout) for step in played):
            raise ValueError(
                "algorithm.pairing = 'knockout' with an environment: groups of siblings may be smaller than "
                "algorithm.samples. Use pairing: iid, best_worst or all."
            )
        if self.evaluation.best_by == "checks":
            raise ValueError(
                "evaluation.best_by = 'checks' with an environment, whose replies carry none: set win_rate or "
                "mean_preference."
            )
        if self.data.collect is not None or self.data.teacher is not None:
            raise ValueError("environment with data.collect or data.teacher: tasks need no answers. Remove those.")

    def trained_roles(self) -> tuple[str, ...]:
        """The environment's roles that are asked, without those that a partner plays."""
        environment = build_environment(self.environment or {})
        untrained = {*self.partners, *environment.unasked}
        return tuple(role for role in environment.roles if role not in untrained)

    def build_algorithm(self) -> Algorithm:
        """The algorithm object that the `algorithm:` section describes."""
        return build_algorithm(self.algorithm)

    def steps(self, data: DataFacts = ANY_DATA) -> list[tuple[Step, ...]]:
        """Every round's steps."""
        algorithm = self.build_algorithm()
        return [algorithm.steps(t, data) for t in range(self.rounds)]

    def most_prompt_tokens(self, context: int | None) -> int:
        """Tokens of the longest prompt that is used: as the recipe says, and so that a response fits the context.

        Raises:
            ValueError: no token is left for a prompt.
        """
        room = self.data.max_prompt_tokens if context is None else context - self.sampling.max_new_tokens
        if room < 1:
            raise ValueError(
                f"sampling.max_new_tokens = {self.sampling.max_new_tokens} leaves no room for a prompt in the "
                f"model's context of {context} tokens. Lower it."
            )
        return min(self.data.max_prompt_tokens, room)

    def few_steps(self, examples: int) -> str:
        """A warning where a round of so many training examples has too few optimiser steps to learn; else empty.

        Where the optimiser is kept, all rounds together count.
        Empty too where an environment makes the examples: how many is known when it was played.
        """
        if self.environment is not None:
            return ""
        used = min(examples, self.data.prompts_per_round or examples)
        size, epochs = self.fit.batch_size, self.fit.epochs
        steps = epochs * -(-used // size)
        if steps * (self.rounds if self.fit.keep_optimizer else 1) >= FEW_STEPS:
            return ""
        smaller = max(1, used * epochs // FEW_STEPS)
        remedy = f"try fit.batch_size = {smaller}" if smaller < size else "raise fit.epochs or give more prompts"
        return (
            f"a round is only {counted(steps, 'optimiser step')} ({counted(used, 'example')} in batches of {size}), "
            f"which may teach nothing; {remedy}"
        )

    def evaluated_rounds(self) -> list[int]:
        """After how many rounds policies are made that are evaluated, then or at the end, unless they were pruned."""
        if self.evaluation.every is not None:
            return evaluated_rounds(self.evaluation.every, self.rounds)
        return list(range(1, self.rounds + 1)) if self.evaluation.every_iterate else [self.rounds]

    def after(self, rounds: int) -> Recipe:
        """The same recipe with another number of rounds."""
        return self.model_copy(update={"rounds": rounds})

    def asks_oracle(self) -> bool:
        """Whether training asks the oracle; that of SPIN or offline DPO judges the evaluation only."""
        judged = any(step.judged for steps in self.steps() for step in steps)
        return self.data.collect is not None or (judged and self.environment is None)

    def columns(self) -> tuple[str, ...]:
        """Roles that the training data must hold (or `data.collect` must build)."""
        return tuple(dict.fromkeys(role for step in self.steps()[0] for role in step.columns()))

    def uses_given_preferences(self) -> bool:
        """Whether pairs have the data's own probabilities, or those that `data.collect` asked for, as labels."""
        return any(step.given_preferences for step in self.steps()[0])

    def columns_in_data(self) -> tuple[str, ...]:
        """Roles that the rows of `data.train` must hold: those that neither `data.collect` nor a teacher makes."""
        made = {"chosen", "rejected"} if self.data.collect else {"gold"} if self.data.teacher else set()
        return tuple(role for role in self.columns() if role not in made)

    def __repr__(self) -> str:
        """What the user gave, as YAML: all defaults are in `resolved()`."""
        given = self.model_dump(mode="json", exclude_unset=True)
        return f"Recipe\n{textwrap.indent(yaml.safe_dump(given, sort_keys=False, allow_unicode=True), '  ')}".rstrip()

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<pre>{escape(repr(self))}</pre>"

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default filled in, as plain data."""
        algorithm = {"name": self.algorithm["name"], **self.build_algorithm().model_dump(mode="json")}
        return {**self.model_dump(mode="json"), "algorithm": algorithm}
