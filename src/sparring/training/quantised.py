"""A frozen base in 4 bits under a trainable adapter (QLoRA), by bitsandbytes.

The base is in 4 bits wherever a policy runs - fit, anchors, sampling - so reference and iterates are the policies that
are trained, and no adapter is merged into 4 bits. Leaves out: other widths, CPUs, and vLLM, whose base would be whole.

    model = load_quantised(folder, torch.float32, torch.bfloat16)
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sparring.models.weights import load_model
from sparring.runtime import gpus

NF4: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
"""as in the paper: NormalFloat4, its scales quantised too (Dettmers et al. 2023, arXiv 2305.14314)"""


def check_quantisation(folder: Path) -> None:
    """Raise a ValueError where the model in `folder` cannot be held in 4 bits here."""
    field = "model.lora.quantize = 'nf4'"
    if not gpus.there():
        raise ValueError(f"{field} needs an NVIDIA GPU, and none is visible. Remove it, or run where there is one.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(f"{field} needs the package bitsandbytes. Install it with: pip install 'sparring[qlora]'")
    if "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        raise ValueError(
            f"{field}: {str(folder)!r} is quantised already, which would win. Give the model in bfloat16 or float32."
        )


def load_quantised(
    folder: Path, dtype: torch.dtype, compute: torch.dtype, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The folder's model on this process' GPU: linear layers in 4 bits but the head, all else in `dtype`.

    Products of quantised layers are in `compute`.

    Raises:
        ValueError: there is no GPU or no bitsandbytes, or the model is quantised already.
    """
    check_quantisation(folder)
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(**NF4, bnb_4bit_compute_dtype=compute)
    device = {"": gpus.current()}
    return load_model(folder, dtype, trust_remote_code, quantization_config=config, device_map=device)
