"""Whether the files beside a policy's weights are those that were there: of the start model, and of trained policies.

A changed configuration, tokenizer or template makes another policy of the same weights. What a run records of them is
compared (`store.py`; lock.json for the start model). Runs of earlier versions recorded the weights alone: the files of
their policies must say what a save of the start model says. Leaves out: the weights themselves.

    check_policies(policies)
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from sparring.algorithms.algorithm import PolicyRef
from sparring.models.chat import rules
from sparring.models.weights import load_tokenizer
from sparring.rounds.policies import Policies, set_end
from sparring.rounds.store import changed_files
from sparring.runtime.errors import first_line
from sparring.runtime.files import read_json, read_object
from sparring.runtime.layout import DATA_STAGE, LOCK, round_folder
from sparring.training.adapters import with_adapter

IGNORED = {
    *("transformers_version", "_name_or_path", "name_or_path", "dtype", "torch_dtype", "architectures"),
    *("is_local", "local_files_only", "peft_version", "base_model_name_or_path", "auto_mapping", "revision"),
    *("inference_mode", "_from_model_config", "_attn_implementation", "_attn_implementation_internal"),
}
"""fields in which two saves of one model may differ"""
WHOLE = ("config.json", "generation_config.json")
ADAPTER = "adapter_config.json"


def check_policies(policies: Policies) -> None:
    """Compare the start model and every policy of the run on disk with what was recorded.

    Raises:
        ValueError: a file is another, or missing; names it and the remedy.
    """
    check_start(policies)
    for key, entry in policies.store.manifest.items():
        for name in entry["outputs"]:
            if (policies.store.root / name).is_dir() and name not in entry.get("pruned", []):
                _check_folder(policies, key, name)


def check_policy(policies: Policies, ref: PolicyRef) -> None:
    """As `check_policies`, of one policy of a run, its weights included.

    Raises:
        ValueError: a file is another, or missing; names it and the remedy.
    """
    check_start(policies)
    folder = round_folder(ref.round - 1, ref.seat) if ref.round else None
    if folder is not None and folder.stage("fit") in policies.store.manifest:
        policies.store.check_output(folder.stage("fit"), folder.policy)
        if policies.exists(ref):
            _check_folder(policies, folder.stage("fit"), folder.policy, record=False)


def check_start(policies: Policies) -> None:
    """Compare the start model with that of lock.json, as soon as a stage depends on it."""
    path = policies.store.root / LOCK
    if not path.exists() or not policies.store.manifest.keys() - {DATA_STAGE}:
        return
    lock = read_object(path, "weights")
    changes = changed_files(lock.get("files"), policies.base)
    if lock["weights"]["0/play"] != policies.base_hash:
        changes = f"the weights in {policies.base} were altered"
    if changes:
        raise ValueError(
            f"model: {changes} since this run began. Restore what was there (a model of the hub: model.revision), or "
            "start anew with another --out."
        )


def _check_folder(policies: Policies, key: str, name: str, record: bool = True) -> None:
    """Compare what a policy folder says with what a save of the start model would, where no hashes are recorded."""
    if name in policies.store.manifest[key].get("files", {}):
        return
    if problem := unlike_start(policies, policies.store.root / name):
        raise ValueError(
            f"{problem} since stage {key} wrote the policy. Restore what was there, or delete "
            f"{policies.store.root / name} to have {key} and what depends on it run again."
        )
    if record:
        policies.store.record_files(key, name)


# ---- policies of earlier versions ----------------------------------------------------------------


def unlike_start(policies: Policies, folder: Path) -> str:
    """The first file of a policy that is missing or says something else than the start model's; empty if none.

    Where the start model cannot be built without its weights, its own files are all that is compared.
    """
    names = [ADAPTER] if policies.model.lora else list(WHOLE)
    own = policies.chat.tokenizer
    names += ["tokenizer_config.json", *(["tokenizer.json"] if hasattr(own, "backend_tokenizer") else [])]
    if missing := [name for name in names if not (folder / name).is_file()]:
        return f"{folder / missing[0]} is missing"
    try:
        tokenizer = load_tokenizer(folder, policies.model.trust_remote_code)
        found = {name: _said(policies, folder, name) for name in names if name in (*WHOLE, ADAPTER)}
    except Exception as error:  # whatever a reader makes of a damaged file
        return f"{folder} was altered, and cannot be read ({first_line(error)}),"
    if tokenizer.chat_template != (policies.chat.template if policies.model.chat_template else own.chat_template):
        return f"{_one(folder, policies.base, 'chat_template.jinja')} (the chat template) was altered"
    if rules(tokenizer) != rules(own):
        return f"{_one(folder, policies.base, 'tokenizer.json')} was altered"
    if tokenizer.special_tokens_map != own.special_tokens_map:
        return f"{folder / 'tokenizer_config.json'} or that of {policies.base} was altered"
    for name, expected in _expected(policies).items():
        fields = sorted(key for key in expected if found[name].get(key) != expected[key])
        if fields and found[name].get("model_type") == expected.get("model_type"):
            shown = ", ".join(f"{field} {found[name].get(field)!r} and {expected[field]!r}" for field in fields[:3])
            return f"{folder / name} or that of {policies.base} was altered ({shown})"
    return ""


def _one(folder: Path, base: Path, name: str) -> str:
    """The file of this name in one of the folders, or what stands in for it."""
    there = any((place / name).exists() for place in (folder, base))
    return f"{folder / (name if there else 'tokenizer_config.json')} or that of {base}"


def _said(policies: Policies, folder: Path, name: str) -> dict[str, Any]:
    """What a configuration file says, in full."""
    if name == "config.json":
        config = AutoConfig.from_pretrained(folder, trust_remote_code=policies.model.trust_remote_code)
        return _plain(config.to_dict())
    if name == "generation_config.json":
        return _plain(GenerationConfig.from_pretrained(folder).to_dict())
    return _plain(read_json(folder / name))


def _expected(policies: Policies) -> dict[str, dict[str, Any]]:
    """What the configuration files of a policy say when it is saved, made of the start model without its weights."""
    code = policies.model.trust_remote_code
    try:
        config = AutoConfig.from_pretrained(policies.base, trust_remote_code=code)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=code)
            if policies.model.lora:
                model = with_adapter(model, policies.model.lora)
        if not policies.model.lora:
            with contextlib.suppress(OSError):  # a model without one has the settings of its configuration
                model.generation_config = GenerationConfig.from_pretrained(policies.base)
            set_end(model.generation_config, policies.chat)
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder)
            if policies.model.lora:
                model.peft_config["default"].save_pretrained(folder)
                return {ADAPTER: _said(policies, saved, ADAPTER)}
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
            return {name: _said(policies, saved, name) for name in WHOLE}
    except Exception:  # a model of another library's making: what is compared above must do
        return {}


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that two saves of one model share, sets in order."""
    plain = {}
    for name, value in said.items():
        if name not in IGNORED:
            nested = _plain(value) if isinstance(value, Mapping) else value
            plain[name] = sorted(nested, key=repr) if name == "target_modules" and isinstance(nested, list) else nested
    return json.loads(json.dumps(plain, default=str))
