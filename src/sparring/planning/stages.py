"""Memory, tokens and time of every stage of a recipe on a machine. Leaves out: the verdict and the knobs (`plan.py`).

stages = Planner(recipe, machine, config, lengths).stages()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from transformers import PretrainedConfig

from sparring.algorithms.algorithm import REFERENCE, DataFacts, Draw, PolicyRef, Reuse, Step
from sparring.algorithms.pairing import Pairing
from sparring.objectives.pairs import needs_whole_step
from sparring.objectives.responses import DESIRABLE, UNDESIRABLE
from sparring.planning.footprint import (
    Footprint,
    Shape,
    anchor_footprint,
    fit_footprint,
    parameters,
    quantisable,
    sample_footprint,
    with_layers,
)
from sparring.planning.lengths import Lengths
from sparring.planning.machine import GROWING_CACHE, SCRATCH, Machine
from sparring.planning.times import BYTES, Times, typical_response
from sparring.recipe.recipe import Recipe
from sparring.runtime.precision import cpu_has_bfloat16
from sparring.sampling.packed import WIDE
from sparring.training.logprobs import chunk_rows

OPTIMIZER_STATES = {"adamw": 2.0, "adamw_8bit": 0.5, "rmsprop": 1.0}
"""per trained weight, in float32 numbers"""
NF4_BYTES = 0.516
"""per weight of a base in 4 bits: half a byte, one for the scale of 64 weights, four for that of 256 scales"""


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of stage."""

    name: str
    times: int
    """how often a run has it"""
    memory: Mapping[str, int]
    """bytes by part"""
    tokens: int | None
    """each time, at most; None where the number of rows is not known"""
    seconds: float | None
    """each time, at most"""
    expected: float | None
    """seconds each time, for responses of typical length"""

    @property
    def peak(self) -> int:
        """Bytes."""
        return sum(self.memory.values())


class Planner:
    """Estimates of one recipe on one machine."""

    def __init__(self, recipe: Recipe, machine: Machine, config: PretrainedConfig, lengths: Lengths) -> None:
        self.recipe, self.machine, self.config, self.lengths = recipe, machine, config, lengths
        # The second round shows what every later one does: anchors that differ, opponents of the past.
        self.steps = recipe.build_algorithm().steps(min(1, recipe.rounds - 1), DataFacts(lengths.train or 1))
        self.step = max(self.steps, key=lambda step: step_shape(step, recipe, lengths).responses)
        self.shape = step_shape(self.step, recipe, lengths)
        typical = recipe.sampling.model_copy(update={"max_new_tokens": typical_response(recipe)})
        self.typical = step_shape(self.step, recipe.model_copy(update={"sampling": typical}), lengths)

    @cached_property
    def times(self) -> Times:
        """Seconds of stages on this machine."""
        layers = self.config.get_text_config().num_hidden_layers
        return Times(self.recipe, self.machine, self.parameters, layers)

    @cached_property
    def parameters(self) -> int:
        """Weights of the model."""
        return parameters(self.config, self.recipe.model.trust_remote_code)

    @cached_property
    def fit_footprint(self) -> Footprint:
        """One micro-batch."""
        return fit_footprint(self.config, self.shape, self.recipe.fit, self.recipe.model.lora)

    def stages(self) -> tuple[Stage, ...]:
        """All stages, in a run's order."""
        return tuple(make() for make in self.makers().values())

    def makers(self) -> dict[str, Callable[[], Stage]]:
        """Per stage, in a run's order, the call that estimates it: a slow one, since it runs the model's code."""
        rounds = self.recipe.rounds
        drawn = sum(draw.count for step in self.steps for draw in step.draws())
        collect = self.recipe.data.collect
        makers: dict[str, Callable[[], Stage]] = {}
        if collect is not None:
            makers["collect"] = partial(self.sample, "collect", 1, self.lengths.train, collect.samples)
        if drawn:
            makers["sample"] = partial(self.sample, "sample", rounds, self._prompts(), drawn)
        return makers | {"anchor": self.anchor, "fit": self.fit, "evaluate": self.evaluate}

    def _prompts(self) -> int | None:
        """Prompts of a round."""
        return _least(self.recipe.data.prompts_per_round, self.lengths.train)

    def _held_out(self) -> int | None:
        """Prompts of an evaluation."""
        return _least(self.recipe.evaluation.prompts, self.lengths.held_out)

    def sample(self, name: str, times: int, prompts: int | None, per_prompt: int) -> Stage:
        """A stage that samples: at most `max_new_tokens` per response."""
        settings = self.recipe.sampling
        footprint = sample_footprint(self.config, self.lengths.prompt, per_prompt, settings)
        responses = None if prompts is None else prompts * per_prompt
        tokens = None if responses is None else responses * settings.max_new_tokens
        mixed = max(
            (len(d.policies) for s in self.steps for d in s.draws() if d.mixture == "token_geometric"), default=1
        )
        if settings.engine == "vllm" and self.machine.kind == "cuda":
            memory, mixed = self._vllm_memory(footprint), 1
        else:
            own = {**self._sampling_memory(footprint, mixed), **self._warm("sample")}
            memory = self._with_overhead(own, footprint.weights)
        limits = (settings.max_new_tokens, typical_response(self.recipe))
        seconds = [None if responses is None else mixed * self.times.sample(responses, responses * n) for n in limits]
        return Stage(name, times, memory, tokens, *seconds)

    def evaluate(self) -> Stage:
        """A policy's held-out responses, and of all but the start their log-probabilities under it and the start."""
        evaluation, prompts = self.recipe.evaluation, self._held_out()
        played = 1 + len(self.recipe.evaluated_rounds())
        stage = self.sample("evaluate", played, prompts, evaluation.samples)
        if prompts is None or stage.seconds is None or stage.expected is None:
            return stage
        share = 2 * (played - 1) / played
        limits = (self.recipe.sampling.max_new_tokens, typical_response(self.recipe))
        sizes = [prompts * (self.lengths.prompt + evaluation.samples * limit) for limit in limits]
        most, expected = (share * self.times.forward(tokens) for tokens in sizes)
        return replace(stage, seconds=stage.seconds + most, expected=stage.expected + expected)

    def _sampling_memory(self, footprint: Footprint, mixed: int) -> dict[str, int]:
        packed = self._packed() * mixed
        return {
            "weights": self._held(footprint.weights, BYTES[self.recipe.sampling.precision]) * mixed,
            **({"packed weights": packed} if packed else {}),
            "KV cache": int(footprint.cache * GROWING_CACHE[self.machine.kind]) * mixed,
            "activations and logits": int(footprint.working * SCRATCH),
        }

    def _packed(self) -> int:
        """Bytes of the linear weights that a CPU holds a second time while it samples (`sampling/packed.py`)."""
        text, lora = self.config.get_text_config(), self.recipe.model.lora
        if self.machine.kind != "cpu":
            return 0
        if self.recipe.sampling.precision != "bfloat16":
            wide = text.vocab_size >= WIDE and not cpu_has_bfloat16()
            return BYTES["float32"] * text.vocab_size * text.hidden_size * wide
        low = lora is not None and lora.quantize is not None
        layers = 0 if low else quantisable(self.config, self.recipe.model.trust_remote_code)
        return BYTES["bfloat16"] * (layers + text.vocab_size * text.hidden_size)

    def _vllm_memory(self, footprint: Footprint) -> dict[str, int]:
        """One device of vLLM: its part of the weights, and the cache that fills the share of memory it may take."""
        settings = self.recipe.sampling
        weights = footprint.weights // settings.vllm.tensor_parallel
        reserved = settings.vllm.kv_cache_gib
        left = int(settings.vllm.memory_share * self.machine.memory) - weights - self.machine.overhead
        cache = left if reserved is None else int(reserved * 2**30)
        return {"runtime": self.machine.overhead, "weights": weights, "KV cache": max(cache, 0)}

    def _held(self, weights: int, itemsize: int) -> int:
        """Bytes of weights of `itemsize` bytes each: less than `weights` where the recipe holds the base in 4 bits."""
        lora = self.recipe.model.lora
        if lora is None or lora.quantize is None:
            return weights
        return weights - int(quantisable(self.config, self.recipe.model.trust_remote_code) * (itemsize - NF4_BYTES))

    def anchor(self) -> Stage:
        """Log-probabilities under every distinct anchor of the round's steps."""
        footprint = anchor_footprint(self.config, self.shape, self.recipe.fit)
        weights = {"weights": self._held(footprint.weights, 4)}
        memory = {**self._shard(weights, trained=False), **self._activations(footprint), **self._warm("reference")}
        # Reference and iterate are always measured.
        t = min(1, self.recipe.rounds - 1)
        policies = sum(len({REFERENCE, PolicyRef(t), *step.anchors.values()}) for step in self.steps)
        sizes = self._training_tokens()
        seconds = [None if tokens is None else policies * self.times.forward(tokens) for tokens in sizes]
        total = None if sizes[0] is None else sizes[0] * policies
        return Stage("anchor", self.recipe.rounds, self._with_overhead(memory, footprint.weights), total, *seconds)

    def fit(self) -> Stage:
        """The optimisation of a round."""
        fit, footprint = self.recipe.fit, self.fit_footprint
        state = {
            "weights": self._held(footprint.weights, 4),
            "gradients": footprint.trained,
            "optimiser": int(footprint.trained * OPTIMIZER_STATES[fit.optimizer]),
        }
        memory = {**self._shard(state, trained=True), **self._activations(footprint), **self._warm("trained")}
        fits = fit.epochs * len(self.steps)
        # A loss that needs a mean over an optimiser step runs its responses once more, without gradients (KTO).
        looked = fit.epochs * sum(needs_whole_step(step.objective) for step in self.steps)
        passes = self._training_tokens()
        sizes = [None if tokens is None else tokens * (fits + looked) for tokens in passes]
        seconds = [None if n is None else self.times.fit(n * fits, n * looked) for n in passes]
        return Stage("fit", self.recipe.rounds, self._with_overhead(memory, footprint.weights), sizes[0], *seconds)

    def _warm(self, own: str) -> dict[str, int]:
        """The models that `warm` keeps beside a stage's own; several devices keep none."""
        if not self.recipe.warm or self.machine.count > 1:
            return {}
        kept = {"reference": 4}  # adapters are merged anew
        if self.recipe.model.lora is None:
            draws = [draw for step in self.steps for draw in step.draws()]
            mixed = max((len(draw.policies) for draw in draws if draw.mixture == "token_geometric"), default=1)
            kept |= {"trained": 4, "sample": mixed * BYTES[self.recipe.sampling.precision]}
        return {"models kept": self.parameters * sum(size for use, size in kept.items() if use != own)}

    def _shard(self, state: Mapping[str, int], trained: bool) -> Mapping[str, int]:
        """One device's part of a state that the recipe shards, and the whole layers that it holds to run one.

        These are embedding and head in float32, the layer that runs and the next one, and their gradients.
        """
        if not self.recipe.fit.shard_weights:
            return state
        depth = self.config.get_text_config().num_hidden_layers
        layer = self.parameters - parameters(with_layers(self.config, depth - 1), self.recipe.model.trust_remote_code)
        outside = self.parameters - depth * layer
        gradients = 4 * (outside + layer) if trained and self.recipe.model.lora is None else 0
        whole = 4 * outside + 2 * layer * BYTES[self.recipe.fit.precision] + gradients
        return {**{name: size // self.machine.count for name, size in state.items()}, "whole layers": whole}

    def _activations(self, footprint: Footprint) -> dict[str, int]:
        """The peak, with the chunk of logits that the log-probabilities are made from shown apart."""
        vocabulary = self.config.get_text_config().vocab_size
        positions = sum(len(r) for rollout in self.shape.rollouts(self.recipe.fit.layout) for r in rollout.responses)
        working = int(footprint.working * SCRATCH)
        chunk = min(working, chunk_rows(vocabulary) * vocabulary * 4, positions * vocabulary * 4)
        return {"activations": working - chunk, "chunk of logits": chunk}

    def _with_overhead(self, memory: Mapping[str, int], weights: int) -> dict[str, int]:
        """Plus what is taken before any tensor, and on a CPU the file that is still mapped when loading ends."""
        parts = {"runtime": self.machine.overhead, **memory}
        if self.machine.kind == "cpu":
            stored = getattr(torch, str(self.config.dtype).removeprefix("torch."), torch.float32)
            file = self.parameters * stored.itemsize
            missing = self.machine.overhead + weights + file - sum(parts.values())
            if missing > 0:
                parts["file while loading"] = missing
        return parts

    def _training_tokens(self) -> tuple[int | None, int | None]:
        """Tokens of a pass over a round's examples: at most, and expected."""
        prompts, layout = self._prompts(), self.recipe.fit.layout
        if prompts is None:
            return None, None
        return prompts * self.shape.example_tokens(layout), prompts * self.typical.example_tokens(layout)

    def disk(self) -> dict[str, int]:
        """Bytes at the end of the last fit."""
        recipe = self.recipe
        policy = self.fit_footprint.trained if recipe.model.lora else 4 * self.parameters
        best = recipe.evaluation.every is not None  # it stays, however old
        every = (recipe.rounds - 1) // recipe.keep_every if recipe.keep_every else 0
        kept = recipe.rounds if recipe.keep_iterates == "all" else recipe.keep_iterates + 1 + best + every
        iterates, seats = min(recipe.rounds, kept), len({step.trains for step in self.steps})
        states = OPTIMIZER_STATES[recipe.fit.optimizer]
        moments = int(self.fit_footprint.trained * states) * seats * (1 if recipe.keep_iterates == 0 else 2)
        return {
            "policies": policy * iterates * seats,
            "checkpoint while fitting": int(self.fit_footprint.trained * (1 + states)),
            **({"optimiser's moments": moments} if recipe.fit.keep_optimizer else {}),
        }


def _least(*limits: int | None) -> int | None:
    """The smallest limit that is known."""
    return min((limit for limit in limits if limit is not None), default=None)


def step_shape(step: Step, recipe: Recipe, lengths: Lengths) -> Shape:
    """A typical training example of a step: the responses that its pairing keeps, at their longest."""
    roles: list[str] = []
    sizes: list[int] = []
    given = () if isinstance(step.responses, Reuse) else step.responses
    unpaired = {DESIRABLE, UNDESIRABLE} <= {source.role for source in given}
    for source in given:
        if unpaired and source.role == UNDESIRABLE:
            continue  # an example has one labelled answer, not both
        count = source.count if isinstance(source, Draw) else 1
        roles += [source.role] * count
        sizes += [recipe.sampling.max_new_tokens if isinstance(source, Draw) else lengths.given] * count
    trained = trained_responses(step.pairing, roles) if roles else [0, 1]
    sizes = sizes or [recipe.sampling.max_new_tokens] * 2
    mean = math.ceil(sum(sizes[i] for i in trained) / len(trained))
    return Shape(lengths.prompt, mean, len(trained), recipe.fit.micro_batch_tokens)


def trained_responses(pairing: Pairing, roles: Sequence[str]) -> list[int]:
    """Indices of an example's responses that are trained on, if every earlier response beats every later one."""
    game = pairing.play(roles, 0)
    wave = next(game)
    while True:
        try:
            wave = game.send([0.9 if a < b else 0.1 for a, b in wave])
        except StopIteration as stop:
            result = stop.value
            return sorted({i for p in result.pairs for i in (p.winner, p.loser)} | set(result.unpaired))
