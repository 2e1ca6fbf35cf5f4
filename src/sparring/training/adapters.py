"""Low-rank adapters (peft): train a small update; the reference is the adapter switched off.

Leaves out: bases in 4 bits (`quantised.py`).

    model = with_adapter(model, LoraConfig(rank=16))
"""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from sparring.recipe import LoraConfig

HEADS = ("lm_head", "embed_out")
"""what models call the vocabulary projection"""


def with_adapter(model: PreTrainedModel, config: LoraConfig) -> nn.Module:
    """The model with a fresh trainable adapter whose update is zero.

    Raises:
        ValueError: an adapter on the LM head is asked for (our projection would ignore it), or no module matches.
    """
    import peft

    targets = config.target_modules
    if targets != "all-linear" and any(name.split(".")[-1] in HEADS for name in targets):
        raise ValueError(
            f"model.lora.target_modules = {targets}: an adapter on the LM head is not supported. Remove it."
        )
    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, lora)
    except ValueError as error:
        linear = {n.split(".")[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        names = sorted(linear - set(HEADS))
        raise ValueError(
            f"model.lora.target_modules = {targets}: {error} Linear modules of this model: {', '.join(names)}."
        ) from error


def load_adapter(model: PreTrainedModel, folder: Path, trainable: bool) -> nn.Module:
    """The model with the adapter stored in `folder`."""
    import peft

    return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
