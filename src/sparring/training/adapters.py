"""Low-rank adapters (peft): a small trainable update of frozen weights; the reference is the model without it.

Leaves out: bases in 4 bits (`quantised.py`).

    model = with_adapter(model, LoraConfig(rank=16))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sparring.models.weights import PICKLED
from sparring.recipe.sections import LoraConfig
from sparring.runtime.errors import first_line
from sparring.runtime.memory import ran_out


def with_adapter(model: PreTrainedModel, config: LoraConfig, task: str = "CAUSAL_LM") -> nn.Module:
    """The model with a fresh trainable adapter whose update is zero; `task` is peft's, and SEQ_CLS trains the head too.

    Raises:
        ValueError: a name that no module has, or one of a module that cannot have an adapter.
    """
    import peft

    if config.target_modules != "all-linear":
        _check_targets(model, config.target_modules)
    settings: dict[str, Any] = {"r": config.rank, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
    lora = peft.LoraConfig(**settings, target_modules=config.target_modules, task_type=task)  # type: ignore[arg-type]
    return _in_order(peft.get_peft_model(model, lora))


def _in_order(adapted: Any) -> nn.Module:
    """The model, whose files name its modules in order: a set is written in another one by every process."""
    for stored in adapted.peft_config.values():
        if isinstance(stored.target_modules, set):
            stored.target_modules = sorted(stored.target_modules)
    return adapted


def _check_targets(model: PreTrainedModel, targets: Sequence[str]) -> None:
    """Raise ValueError unless every name is that of linear layers (matched as peft matches), and not of the head.

    The scorer's projection would ignore an adapter on the head; merging one on tied embeddings would change the head.
    """
    head = model.get_output_embeddings()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head}
    allowed = f"Linear modules of this model: {', '.join(sorted({name.split('.')[-1] for name in linear}))}."
    if not targets:
        raise ValueError(f"model.lora.target_modules = []: nothing would be trained. {allowed}")
    for target in targets:
        matches = [(n, m) for n, m in model.named_modules() if n == target or n.endswith(f".{target}")]
        wrong = [name for name, _ in matches if name not in linear]
        if not matches:
            reason = f"no module of the model is called {target!r}."
        elif any(module is head for _, module in matches):
            reason = f"an adapter on the LM head ({target!r}) is not supported. Remove it."
        elif wrong:
            reason = f"{wrong[0]!r} is not a linear layer, and only those get an adapter. Remove it."
        else:
            continue
        raise ValueError(f"model.lora.target_modules = {list(targets)}: {reason} {allowed}")


def load_adapter(model: PreTrainedModel, folder: Path, trainable: bool) -> nn.Module:
    """The model with the adapter stored in `folder`.

    Raises:
        ValueError: the adapter cannot be read, is pickled, or its weights have other sizes than the model's.
    """
    import peft

    refuse_pickled(folder)
    try:
        return _in_order(peft.PeftModel.from_pretrained(model, str(folder), is_trainable=trainable))
    except Exception as error:  # peft has no error of its own for a configuration or weights that it cannot use
        if ran_out(error):
            raise
        sizes = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        if not sizes:
            raise ValueError(f"model: the adapter in {str(folder)!r} cannot be loaded: {first_line(error)}") from error
        raise ValueError(
            f"model: the adapter in {str(folder)!r} belongs to another base than {model.name_or_path!r}: {sizes[0]} "
            "Give the base that it was trained over."
        ) from error


def refuse_pickled(folder: Path) -> None:
    """Raise ValueError where an adapter has no safetensors: pickled weights can run code when they are loaded."""
    if not (folder / "adapter_model.safetensors").exists():
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
        found = f"; found pickled weights {pickled}, which can run code when loaded" if pickled else ""
        raise ValueError(
            f"model: the adapter in {str(folder)!r} has no adapter_model.safetensors{found}. Save it with "
            "model.save_pretrained(folder) on a machine you trust."
        )
