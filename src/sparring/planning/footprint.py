"""Peak memory of a stage, from the model's configuration alone: our own code run on tensors without storage.

The very code that samples and fits runs once under torch's fake tensors while a tracker adds up what is alive, so
the figure follows the code. Two shallow copies of the model are run and the peak is extended to its depth. Leaves
out: what no tensor holds (the interpreter, kernels' scratch space); `machine.py` has constants for these.

    fit_footprint(config, Shape(prompt=100, response=128, responses=2, budget=8192), FitConfig(), None)

Shape suffixes: B rows, P prompts, T tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.integrations import moe

from sparring.models.architecture import layer_kinds
from sparring.recipe.sections import FitConfig, LoraConfig, SamplingConfig
from sparring.runtime.errors import first_line
from sparring.sampling.transformers_engine import Caches, TransformersEngine, keep
from sparring.training.accumulate import accumulating
from sparring.training.adapters import with_adapter
from sparring.training.packing import Layout, Pack, Rollout, make_pack
from sparring.training.rollout_logps import ANCHOR_ROOM
from sparring.training.scorer import PolicyScorer

SHALLOW = (2, 4)
"""layers of the two copies that are run"""
MOST_EXAMPLES = 8
"""Examples of a pack that are run; more are made fewer and longer, which holds the same bytes a token."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a typical training example, in tokens, and of the packs that are made of them."""

    prompt: int
    response: int
    responses: int
    budget: int
    """fit.micro_batch_tokens"""

    def example_tokens(self, layout: Layout) -> int:
        """Tokens of one example."""
        return self._example(self.response).tokens(layout)

    def rollouts(self, layout: Layout) -> list[Rollout]:
        """Examples that fill one pack to its budget; a single one where that is already more."""
        example = self._example(self.response)
        merged = self.budget // example.tokens(layout) // MOST_EXAMPLES
        if merged > 1:
            longer = replace(self, prompt=self.prompt * merged, response=self.response * merged)
            return longer.rollouts(layout)
        count, rest = divmod(self.budget, example.tokens(layout))
        if count == 0:
            return [example]
        shared = 1 if layout == "packed" else self.responses
        short = (rest - shared * self.prompt) // self.responses
        examples = [example] * count + ([self._example(short)] if short > 1 else [])
        # Different prompts, for equal ones would be fed once.
        return [one._replace(prompt_ids=[i, *one.prompt_ids[1:]]) for i, one in enumerate(examples)]

    def _example(self, response: int) -> Rollout:
        return Rollout([0] * self.prompt, [[0] * response] * self.responses)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a stage's tensors, by kind."""

    weights: int
    trained: int
    """of the weights that get gradients"""
    working: int
    """peak of what comes and goes: activations and logits"""
    cache: int = 0
    """keys and values, while sampling"""


class Live(TorchDispatchMode):
    """Adds up the storage that is alive; `peak` since the last `restart`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.base = 0
        self._known: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()

    def restart(self) -> None:
        """Count from here."""
        self.base = self.peak = self.now

    @property
    def working(self) -> int:
        """Peak above what was alive at the restart."""
        return self.peak - self.base

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return made

    def _add(self, tensor: Shaped[Tensor, " ..."]) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = None
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self.now -= size


def parameters(config: PretrainedConfig, trust_remote_code: bool = False) -> int:
    """Number of the model's weights, tied ones once."""
    return sum(p.numel() for p in _on_meta(config, trust_remote_code).parameters())


def quantisable(config: PretrainedConfig, trust_remote_code: bool = False) -> int:
    """Number of weights that a base in 4 bits stores in 4 bits: of its linear layers without the head."""
    model = _on_meta(config, trust_remote_code)
    head = model.get_output_embeddings()
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)


def fit_footprint(config: PretrainedConfig, shape: Shape, fit: FitConfig, lora: LoraConfig | None) -> Footprint:
    """One micro-batch forward and backward, gradients already there; the optimiser's state is not counted."""

    def run(shallow: PretrainedConfig) -> Footprint:
        pack = make_pack(shape.rollouts(fit.layout), fit.layout)
        model = _model(shallow, torch.float32, lora)
        with _tracked() as (fake, live):
            _allocate(model)
            scorer = PolicyScorer(model, fit.layout).train()
            if fit.gradient_checkpointing:
                scorer.causal.gradient_checkpointing_enable({"use_reentrant": False})
            trained = [p for p in model.parameters() if p.requires_grad]
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            live.restart()
            with accumulating(), torch.autocast("cpu", torch.bfloat16, enabled=fit.precision == "bfloat16"):
                logps_R = scorer(_as_fake(pack, fake))
                with torch.autocast("cpu", enabled=False):
                    logps_R.sum().backward()
        return Footprint(_bytes(model.parameters()), _bytes(trained), live.working)

    return _to_depth(config, run)


def anchor_footprint(config: PretrainedConfig, shape: Shape, fit: FitConfig) -> Footprint:
    """One pack forward without gradients."""
    shape = replace(shape, budget=ANCHOR_ROOM * shape.budget)

    def run(shallow: PretrainedConfig) -> Footprint:
        pack = make_pack(shape.rollouts(fit.layout), fit.layout)
        model = _model(shallow, torch.float32)
        with _tracked() as (fake, live):
            _allocate(model)
            scorer = PolicyScorer(model, fit.layout).eval()
            live.restart()
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fit.precision == "bfloat16"):
                scorer(_as_fake(pack, fake))
        return Footprint(_bytes(scorer.parameters()), 0, live.working)

    return _to_depth(config, run)


def sample_footprint(config: PretrainedConfig, prompt: int, per_prompt: int, settings: SamplingConfig) -> Footprint:
    """A batch at its longest: the prompts' prefill, or the last token of rows that all ran to the limit."""
    rows = settings.batch_size
    prompts = max(1, rows // per_prompt)
    longest = prompt + settings.max_new_tokens

    def run(shallow: PretrainedConfig) -> Footprint:
        model = _model(shallow, DTYPES[settings.precision])
        with _tracked() as (_, live), torch.no_grad():
            _allocate(model)
            engine = TransformersEngine([(model, 1.0)], settings, frozenset())
            live.restart()
            caches = engine.new_caches()
            _next(engine, caches, torch.zeros(prompts, prompt, dtype=torch.long), 0)
            prefill = live.working
            keep(caches, torch.zeros(rows, dtype=torch.long))
            layers = [layer for cache in caches[0].values() for layer in cache.layers]
            stored = [_bytes(growing) for layer in layers if (growing := _keys_and_values(layer))]
            states = _bytes(t for layer in layers for t in _states(layer))
            grown = sum(stored) * longest // prompt + states
            live.restart()
            _next(engine, caches, torch.zeros(rows, 1, dtype=torch.long), prompt)
            # What grows with the row: a layer's keys and values, copied to add one, and its attention scores.
            step = live.working + max(stored, default=0) * (longest - prompt) // prompt
        return Footprint(_bytes(model.parameters()), 0, max(prefill - grown, step), grown)

    return _to_depth(config, run)


def _next(engine: TransformersEngine, caches: list[Caches], ids: Int[Tensor, "B Q"], past: int) -> Float[Tensor, "B V"]:
    """The engine's own arithmetic from tokens to choices; `_choose` sorts where top_p is below 1."""
    mask = torch.ones(len(ids), past + ids.shape[1], dtype=torch.long)
    logps_BV = engine._logps(ids, mask, mask.cumsum(1)[:, past:] - 1, caches)
    probs_BV = (logps_BV / 1.0).softmax(-1)
    if engine.settings.top_p < 1:
        probs_BV, _ = probs_BV.sort(dim=-1, descending=True, stable=True)
    return probs_BV.cumsum(-1)


def _keys_and_values(layer: Any) -> list[Shaped[Tensor, " ..."]]:
    """Of a layer that keeps some for every token."""
    both = getattr(layer, "keys", None), getattr(layer, "values", None)
    return [tensor for tensor in both if tensor is not None]


def _states(layer: Any) -> list[Shaped[Tensor, " ..."]]:
    """Of a layer that keeps as much for a row of any length."""
    kinds = getattr(layer, "conv_states", {}), getattr(layer, "recurrent_states", {})
    return [tensor for states in kinds for tensor in states.values() if tensor is not None]


@contextlib.contextmanager
def _tracked() -> Iterator[tuple[FakeTensorMode, Live]]:
    with FakeTensorMode() as fake, Live() as live, _experts():
        yield fake, live


@contextlib.contextmanager
def _experts() -> Iterator[None]:
    """Have the product of experts make tensors of its sizes: an expert's tokens are not known without values."""
    before = getattr(moe, "_grouped_mm", None)
    moe._grouped_mm = lambda input, weight, offs: input.to(weight.dtype) @ weight[0]  # type: ignore[attr-defined]
    try:
        yield
    finally:
        moe._grouped_mm = before  # type: ignore[attr-defined]


def _on_meta(config: PretrainedConfig, trust_remote_code: bool = False, **options: Any) -> Any:
    """The model without storage."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code, **options)


def _model(config: PretrainedConfig, dtype: torch.dtype, lora: LoraConfig | None = None) -> Any:
    model = _on_meta(config, dtype=dtype)
    with torch.device("meta"):
        return model if lora is None else with_adapter(model, lora)


def _allocate(model: nn.Module) -> None:
    """Give every weight a fake tensor, tied ones the same."""
    made: dict[int, Shaped[Tensor, " ..."]] = {}
    for module in model.modules():
        for kind in (module._parameters, module._buffers):
            for name, old in kind.items():
                if old is None:
                    continue
                if id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    made[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
                kind[name] = made[id(old)]  # type: ignore[assignment]


def _as_fake(pack: Pack, fake: FakeTensorMode) -> Pack:
    tensors = {f.name: getattr(pack, f.name) for f in fields(pack)}
    return replace(pack, **{name: fake.from_tensor(t) for name, t in tensors.items() if isinstance(t, Tensor)})


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _to_depth(config: PretrainedConfig, run: Callable[[PretrainedConfig], Footprint]) -> Footprint:
    """The footprint at the model's depth, from two shallow copies: every part is linear in repeats of its layers.

    Raises:
        ValueError: the model's code cannot be run without values.
    """
    depth = config.get_text_config().num_hidden_layers
    few, more = shallow_depths(config)
    try:
        if depth <= more:
            return run(config)
        low, high = (run(with_layers(config, layers)) for layers in (few, more))
    except ValueError:
        raise
    except Exception as error:  # a model's code fails in any way on what it was not written for
        raise ValueError(
            f"model: {config.model_type} cannot be planned: its code does not run on tensors without values "
            f"({first_line(error)}). `sparring run` tries the model itself before any work."
        ) from error

    def extended(name: str) -> int:
        a, b = getattr(low, name), getattr(high, name)
        return a + (b - a) * (depth - few) // (more - few)

    return Footprint(*(extended(f.name) for f in fields(Footprint)))


def shallow_depths(config: PretrainedConfig) -> tuple[int, int]:
    """Layers of the two copies: at least SHALLOW, and whole repeats of the pattern of layers of different kinds."""
    kinds = layer_kinds(config)
    period = next((p for p in range(1, len(kinds)) if kinds[p:] == kinds[:-p]), max(1, len(kinds)))
    few = period * -(-SHALLOW[0] // period)
    return few, max(SHALLOW[1], 2 * few)


def with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The configuration with fewer layers; lists with an entry per layer are shortened too."""
    shallow = copy.deepcopy(config)
    text = shallow.get_text_config()
    depth = text.num_hidden_layers
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return shallow
