"""Whether a model can be sampled in this process: two tokens after prompts of several lengths against one plain pass.

A model that does not use our cache, reads the padding beside shorter prompts or keeps states elsewhere would otherwise
be sampled from another distribution than it is trained with, or end in an error hours later. Uses no random numbers.
Leaves out: vLLM, which is recognised by log-probabilities (`vllm_engine.py`).

    check_sampling(load_model(folder))

Shape suffixes: B rows, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from sparring.models.architecture import is_exact, revealed
from sparring.recipe.sections import SamplingConfig
from sparring.runtime.errors import first_line
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine

AGREES = {True: 1e-2, False: 0.3}
"""how far both ways may be apart, as a share of what another first token changes: in float32, and where values round"""
SHOWS = 1e-2
"""what that token must change in some logit, or weights are enlarged until it does"""
MOST_WIDENED = 2_000_000_000
"""parameters up to which a model is compared in float32: 8 GB"""
TOLD = 2
"""tokens that each row is told after its prompt"""
REMEDY = "Use sampling.engine: vllm if it serves this architecture, or another model."


def check_sampling(model: PreTrainedModel) -> None:
    """Raise ValueError where the model gives other logits token by token, beside other rows, than in one pass."""
    name, exact = type(model).__name__, is_exact(model)
    try:
        with contextlib.nullcontext() if exact else _widened(model) as wide, torch.inference_mode():
            exact = exact or bool(wide)
            worst, effect = _compare(model)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a model's code fails in any way on what it was not written for
        raise ValueError(f"model: {name} cannot be sampled in this process ({first_line(error)}). {REMEDY}") from error
    if not worst <= AGREES[exact] * effect:
        rounding = "" if exact else "Where rounding does it, sampling.precision: float32 helps. "
        raise ValueError(
            f"model: {name} gives other logits token by token than in one pass (up to {worst:.2g}, where another first "
            f"token changes {effect:.2g}), so it cannot be sampled in this process. {rounding}{REMEDY}"
        )


@contextlib.contextmanager
def _widened(model: PreTrainedModel) -> Iterator[bool]:
    """The model's 16-bit values as float32, undone exactly; False where they stay: a large or a quantised model.

    Rounding to 16 bits can change logits by as much as a wrong token does: 0.7 in a model of 135M parameters.
    """
    tensors = [*model.parameters(), *model.buffers()]
    narrow = [(tensor, tensor.dtype) for tensor in tensors if tensor.dtype in (torch.bfloat16, torch.float16)]
    if getattr(model, "is_quantized", False) or sum(tensor.numel() for tensor, _ in narrow) > MOST_WIDENED:
        yield False
        return
    try:
        for tensor, _ in narrow:
            tensor.data = tensor.data.float()
        yield True
    finally:
        for tensor, dtype in narrow:
            tensor.data = tensor.data.to(dtype)


def _compare(model: PreTrainedModel) -> tuple[float, float]:
    """The largest difference of a logit between both ways, and what another first token changes in one pass."""
    size = model.config.get_text_config().vocab_size
    ids = [(7 * i + 3) % size for i in range(24)]
    prompts = [ids[:7], ids[7:10], ids[10:12]]
    rows = [[*prompt, *ids[12 + TOLD * k : 14 + TOLD * k]] for prompt in prompts for k in range(2)]
    engine = TransformersEngine([(model, 1.0)], SamplingConfig(max_new_tokens=TOLD), frozenset())
    fast = str(model.config._attn_implementation)

    def in_one_pass(rows: list[list[int]]) -> Float[Tensor, "B V"]:
        model.set_attn_implementation("eager")
        tokens = [torch.tensor([row], device=model.device) for row in rows]
        logits = [model(input_ids=one, use_cache=False).logits[0, -1].float() for one in tokens]
        model.set_attn_implementation(fast)
        return torch.stack(logits)

    def effect() -> float:
        one, other = in_one_pass([rows[0], [(rows[0][0] + 1) % size, *rows[0][1:]]])
        return float((one - other).abs().max())

    with revealed(model, effect, SHOWS) as shown:
        return float((_token_by_token(engine, rows) - in_one_pass(rows)).abs().max()), shown


def _token_by_token(engine: TransformersEngine, rows: list[list[int]]) -> Float[Tensor, "B V"]:
    """B x V: next-token logits of the rows as sampling makes them, their order turned round before the last token."""
    batch = engine._prefill([Request(row[:-TOLD], 0) for row in rows])
    engine._advance(batch, torch.tensor([row[-2] for row in rows], device=engine.device))
    batch = engine._select(batch, torch.arange(len(rows), device=engine.device).flip(0))
    engine._advance(batch, torch.tensor([row[-1] for row in reversed(rows)], device=engine.device))
    return batch.logps_BV.flip(0)
