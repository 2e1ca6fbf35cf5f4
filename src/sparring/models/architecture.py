"""What a model's architecture asks of those who run it: states between tokens, a limited reach, a scale of its logits.

Read from the model's layers and configuration, so that small weights cannot hide it. Leaves out: comparing numbers
(`training/scorer.py`, `sampling/transformers_engine.py`), for which `revealed` makes small weights large.

    if kinds := state_layers(model): ...
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

STATE = "cache_params"
"""the name under which models without attention take their cache"""
LARGEST = 2.0**10
"""how much `revealed` enlarges weights at most"""
TYPICAL = 0.5
"""standard deviation of a trained matrix times the root of its width, at least (1 keeps the size of what it reads)"""


def state_layers(model: PreTrainedModel) -> str:
    """The kinds of layers that hand a state from token to token (recurrent, linear attention, convolutions); or "".

    What they compute depends on all earlier tokens of a row, whatever an attention mask says.
    """
    held = any(hasattr(layer, "recurrent_states") for layer in _cache_layers(model.config))
    decoder: Any = model.get_decoder()
    convolutions = any(isinstance(module, nn.Conv1d) for module in decoder.modules())
    if not (held or convolutions or getattr(model, "_is_stateful", False)):
        return ""
    text = model.config.get_text_config()
    listed = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ()
    plain = {"full_attention", "sliding_attention", "attention", "mlp", "moe"}
    kinds = sorted({str(kind) for kind in listed} - plain)
    return ", ".join(kinds) or ("convolution" if convolutions else "recurrent")


def attention_window(config: PretrainedConfig) -> tuple[str, int] | None:
    """Field and size of the shortest window or chunk, in tokens, beyond which a layer does not look back; None without.

    Not every model tells its attention function; a mask of its own may be all that says it.
    """
    windows = [getattr(layer, "sliding_window", None) for layer in _cache_layers(config)]
    shortest = min((window for window in windows if isinstance(window, int)), default=None)
    if shortest is None:
        return None
    chunk = getattr(config.get_text_config(), "attention_chunk_size", None)
    return ("attention_chunk_size" if shortest == chunk else "sliding_window"), shortest


def turns_by_length(config: PretrainedConfig) -> bool:
    """Whether keys are turned by angles that depend on how long the row is (`dynamic`, `longrope`)."""
    given = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [part.get("rope_type") for part in (given, *given.values()) if isinstance(part, Mapping)]
    return not {"dynamic", "longrope"}.isdisjoint(kinds)


def layer_kinds(config: PretrainedConfig) -> list[str]:
    """What kind of cache each layer has, in their order; none where the configuration does not say."""
    return [type(layer).__name__ for layer in _cache_layers(config)]


def is_exact(model: PreTrainedModel) -> bool:
    """Whether the model computes in float32 with weights that were not rounded."""
    return model.dtype == torch.float32 and not getattr(model, "is_quantized", False)


def _cache_layers(config: PretrainedConfig) -> list[Any]:
    try:
        return DynamicCache(config=config).layers
    except Exception:  # a configuration of somebody's own code may lack what transformers looks for
        return []


def logit_scale(config: PretrainedConfig) -> float:
    """By what the head's product is multiplied to give the logits: Granite, Cohere and Falcon-H1 have such a number."""
    text = config.get_text_config()
    scale = 1.0
    for name in ("logit_scale", "lm_head_multiplier"):
        scale *= _number(getattr(text, name, None))
    return scale / _number(getattr(text, "logits_scaling", None))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and value else 1.0


def new_cache(model: PreTrainedModel) -> dict[str, Any]:
    """An empty cache, by the name under which the model takes it; no name for a model that takes none."""
    known = inspect.signature(model.forward).parameters
    name = next((name for name in ("past_key_values", STATE) if name in known), None)
    return {} if name is None else {name: DynamicCache(config=model.config)}


@contextlib.contextmanager
def revealed(model: PreTrainedModel, effect: Callable[[], float], least: float) -> Iterator[float]:
    """Enlarge the body's matrices by a power of two until `effect()` reaches `least`; gives the effect. Undone exactly.

    Near its random start a model hardly depends on what it has read, and whatever is compared then agrees. So matrices
    are first made as large as those of trained models, which mostly are already.
    """
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    ends = {id(module.weight) for module in (*tables, model.get_output_embeddings()) if module is not None}
    # Decay rates (A_log) are exponents: larger ones would only forget faster.
    matrices: list[Shaped[Tensor, ...]] = [
        weight
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and weight.is_floating_point() and id(weight) not in ends and "A_log" not in name
    ]
    sizes = sorted(_gain(weight) for weight in matrices)
    typical = sizes[len(sizes) // 2] if sizes else TYPICAL
    factor = 2.0 ** math.ceil(math.log2(min(LARGEST, TYPICAL / typical))) if 0.0 < typical < TYPICAL else 1.0
    with torch.no_grad():
        try:
            _multiply(matrices, factor)
            found = effect()
            while found < least and factor < LARGEST:
                factor *= 2.0
                _multiply(matrices, 2.0)
                larger = effect()
                if not larger < float("inf"):  # overflow: the last factor was the best
                    factor /= 2.0
                    _multiply(matrices, 0.5)
                    break
                found = larger
            yield found
        finally:
            _multiply(matrices, 1.0 / factor)


def _multiply(matrices: Sequence[Shaped[Tensor, " ..."]], factor: float) -> None:
    if factor != 1.0:
        for matrix in matrices:
            matrix.mul_(factor)


def _gain(weight: Shaped[Tensor, " ..."]) -> float:
    """Of a matrix: the standard deviation of some of its entries times the root of its width."""
    some = weight.detach().flatten()[:: max(1, weight.numel() // 4096)]
    return float(some.float().std(correction=0)) * weight[0].numel() ** 0.5
