"""The plan of a run: memory per stage, tokens, time and disk; whether it fits, and which knob makes it fit.

Reads the model's configuration, and data and tokenizer where they are on this machine; loads no weights. Tokens and
the bound of the time take sampled responses at their longest, the expected time at a typical length. Several devices
share sampling, anchors and fit evenly. Leaves out: the oracle, and what devices tell each other.

    plan = make_plan(load_recipe("demo"), parse_machine("cpu"))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from sparring.models.weights import check_weights, context_of, load_config, refuse_unsuitable, resolve_model
from sparring.planning.lengths import Lengths, on_this_machine, read_lengths
from sparring.planning.machine import USABLE, Machine
from sparring.planning.stages import Planner, Stage
from sparring.planning.times import typical_response
from sparring.recipe.reading import parse_recipe
from sparring.recipe.recipe import Recipe
from sparring.runtime.precision import cpu_has_bfloat16

SAMPLES = ("collect", "sample", "evaluate")
Change = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """The needs of a run on a machine."""

    machine: Machine
    parameters: int
    trained: int
    lengths: Lengths
    response: int
    """tokens that a sampled response is expected to have"""
    stages: tuple[Stage, ...]
    disk: Mapping[str, int]
    knobs: Mapping[str, Change | None]
    """per stage that does not fit: the first change of the recipe that makes it fit; None if none does"""
    warning: str = ""
    """where a round has too few optimiser steps, or the figures leave something out"""

    @property
    def capacity(self) -> int:
        """Bytes that a stage may use."""
        return int(self.machine.memory * USABLE)

    @property
    def fits(self) -> bool:
        """Whether every stage fits into the memory."""
        return not self.knobs

    @property
    def seconds(self) -> float | None:
        """The whole run without the oracle, at most; None where the number of rows is not known."""
        return self._total([stage.seconds for stage in self.stages])

    @property
    def expected(self) -> float | None:
        """The whole run without the oracle, for responses of typical length and on a machine that is not busy."""
        return self._total([stage.expected for stage in self.stages])

    def _total(self, seconds: Sequence[float | None]) -> float | None:
        known = [one * stage.times for one, stage in zip(seconds, self.stages, strict=True) if one is not None]
        return sum(known) if len(known) == len(self.stages) else None

    def plain(self) -> dict[str, Any]:
        """The plan as data for JSON, with the figures that follow from its fields."""
        stages = [{**asdict(stage), "peak": stage.peak} for stage in self.stages]
        times = {"seconds": self.seconds, "expected": self.expected}
        return {**asdict(self), "stages": stages, **times, "capacity": self.capacity, "fits": self.fits}


EPISODES = (
    "the environment's episodes are counted as one question a task; those that ask more often take longer, at most in "
    "proportion"
)


def make_plan(recipe: Recipe, machine: Machine) -> Plan:
    """Estimate every stage.

    Raises:
        ValueError: the model's configuration or the data cannot be read, or the model cannot be run as the recipe says.
    """
    if machine.kind == "cpu" and not cpu_has_bfloat16():
        own = recipe.sampling.engine == "transformers"
        recipe = changed(recipe, {"fit.precision": "float32", **({"sampling.precision": "float32"} if own else {})})
    config, lengths = read_config(recipe), read_lengths(recipe)
    recipe.most_prompt_tokens(context_of(config))
    planner = Planner(recipe, machine, config, lengths)
    stages = planner.stages()
    capacity = machine.memory * USABLE
    knobs = {s.name: _knob(recipe, machine, config, lengths, s.name) for s in stages if s.peak > capacity}
    trained = planner.fit_footprint.trained // 4
    response = typical_response(recipe)
    few = recipe.few_steps(lengths.train) if lengths.train else ""
    few = EPISODES if recipe.environment is not None else few
    return Plan(machine, planner.parameters, trained, lengths, response, stages, planner.disk(), knobs, few)


def read_config(recipe: Recipe) -> PretrainedConfig:
    """The model's configuration; of a hub model only that file is fetched."""
    model = recipe.model
    where = resolve_model(model.path, model.revision) if on_this_machine(model.path) else model.path
    config = load_config(where, model.trust_remote_code, revision=model.revision)
    refuse_unsuitable(config, model.path)
    if isinstance(where, Path):
        check_weights(where, model.trust_remote_code)
    return config


# ---------------------------------------------------------------- knobs


def _knob(recipe: Recipe, machine: Machine, config: PretrainedConfig, lengths: Lengths, name: str) -> Change | None:
    """The first change that makes a stage fit, from harmless to drastic."""
    for change in possible(recipe, name, machine.count):
        stage = Planner(changed(recipe, change), machine, config, lengths).makers()[name]()
        if stage.peak <= machine.memory * USABLE:
            return change
    return None


def possible(recipe: Recipe, name: str, devices: int) -> Iterator[Change]:
    """Changes that make a stage smaller, from harmless to drastic."""
    if name in SAMPLES and recipe.sampling.engine == "vllm":
        wider = [size for size in (2, 4, 8) if size <= devices and size > recipe.sampling.vllm.tensor_parallel]
        yield from ({"sampling.vllm.tensor_parallel": size} for size in wider)
        return
    if name in SAMPLES:
        yield from ({"sampling.batch_size": size} for size in _halves(recipe.sampling.batch_size, 1))
        return
    smaller = [{"fit.micro_batch_tokens": size} for size in _halves(recipe.fit.micro_batch_tokens, 512)]
    yield from smaller
    shard = {"fit.shard_weights": True}
    lora = recipe.model.lora
    may_shard = devices > 1 and not recipe.fit.shard_weights and (lora is None or lora.quantize is None)
    if may_shard:
        yield from ({**shard, **change} for change in ({}, *smaller[-1:]))
    if name == "anchor":
        return
    recomputing = [{"fit.gradient_checkpointing": True, **change} for change in ({}, *smaller[-1:])]
    yield from recomputing
    if may_shard:
        yield from ({**shard, **change} for change in recomputing)
    if lora is None:
        yield from ({"model.lora": {}, **change} for change in ({}, *recomputing))


def _halves(value: int, least: int) -> Iterator[int]:
    while (value := value // 2) >= least:
        yield value


def changed(recipe: Recipe, change: Change) -> Recipe:
    """The recipe with dotted fields set."""
    plain = recipe.model_dump(mode="json")
    for key, value in change.items():
        *parents, last = key.split(".")
        section = plain
        for parent in parents:
            section = section[parent]
        section[last] = value
    return parse_recipe(plain)
