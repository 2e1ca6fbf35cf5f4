"""Export a policy: one plain Hugging Face folder with merged weights, tokenizer and a model card.

A run's policy, or any model or adapter folder. Adapters are merged in float32 before the conversion. The folder
appears whole or not at all. Leaves out: quantised formats (their converters read this folder).

    export(find_source(Path("runs/demo")), Path("exported"), "bfloat16")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sparring.algorithms.algorithm import PolicyRef
from sparring.evaluation.best_policy import Best, in_words
from sparring.evaluation.intervals import from_json
from sparring.models.chat import Chat
from sparring.models.generation import generation_note
from sparring.models.identity import hash_weights
from sparring.models.weights import load_model, load_tokenizer, resolve_model
from sparring.recipe.recipe import Recipe
from sparring.report.summary import Summary, read_summary
from sparring.rounds.model_card import Origin, model_card
from sparring.rounds.policies import Policies, set_end
from sparring.rounds.policy_files import check_policy
from sparring.rounds.resume import read_run_recipe
from sparring.rounds.so_far import best_after
from sparring.rounds.store import Store
from sparring.runtime import layout
from sparring.runtime.errors import reason_of
from sparring.runtime.files import folder_beside, read_object, write_json, write_text
from sparring.runtime.locks import locked_path
from sparring.training.adapters import load_adapter, refuse_pickled
from sparring.training.quantised import load_quantised

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Source:
    """A policy to export, and how it was made."""

    folder: Path
    """policy folder: a whole model or an adapter"""
    base: Path | None
    """model under the adapter; None for a whole model"""
    trust_remote_code: bool = False
    quantized: bool = False
    """the adapter was trained over the base in 4 bits"""
    chat: Chat | None = None
    """of the run: what ends an answer; None for a folder, whose generation settings stay"""
    origin: Origin | None = None
    """how it was made, for the card; None for a folder that no run made"""

    @property
    def note(self) -> str:
        """What was changed in its generation settings, so that they can be saved; mostly empty."""
        return generation_note(self.base or self.folder)


def find_source(path: Path, round_: int | None = None, base: str | None = None, best: bool = False) -> Source:
    """A run's policy after `round_` rounds (None: the last), or its best evaluated one; or a model or adapter folder.

    Raises:
        ValueError: it is none of them, that round's policy is not there, or there is no best one.
    """
    if best and round_ is not None:
        raise ValueError(f"--best with --round {round_}: both choose a policy. Give one of them.")
    if layout.is_run(path):
        if base is not None:
            raise ValueError("--base is for adapter folders; a run knows its start model.")
        return _from_run(path, round_, best)
    layout.refuse_folder_of_runs(path)
    if round_ is not None:
        raise ValueError(f"--round {round_}: {path} is not a run (it has no recipe.yaml).")
    if best:
        raise ValueError(f"--best: {path} is not a run (it has no recipe.yaml), so it has no evaluated policies.")
    if not path.is_dir():
        raise ValueError(f"{path} is neither a run nor a model folder.")
    if not (path / "adapter_config.json").exists():
        return Source(resolve_model(str(path)), None)
    base = base or read_object(path / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(f"{path / 'adapter_config.json'} names no base model. Give --base: a folder or hub name.")
    refuse_pickled(path)
    return Source(path, resolve_model(base))


def _from_run(path: Path, round_: int | None, best: bool) -> Source:
    recipe = read_run_recipe(path)
    policies = Policies(Store(path), recipe.model, recipe.fit.precision)
    fitted = [t for t in range(1, recipe.rounds + 1) if _is_fitted(policies, t)]
    chosen = _best(policies.store, recipe) if best else None
    wanted = chosen["round"] if chosen else recipe.rounds if round_ is None else round_
    if wanted not in fitted:
        choice = ", ".join(map(str, fitted))
        there = f"it has those after {choice} rounds; choose with --round" if fitted else "it has none"
        raise ValueError(f"{path} has no policy after {wanted} rounds: {there}, or finish it with `sparring run`.")
    check_policy(policies, PolicyRef(wanted))
    folder = path / policies.location(PolicyRef(wanted))
    base = None if recipe.model.lora is None else policies.base
    origin = Origin(
        recipe=recipe,
        rounds=wanted,
        weights=policies.hash(PolicyRef(wanted)),
        summary=_summary(policies.store, recipe, wanted),
        chosen=chosen,
        data=policies.store.manifest.get(layout.DATA_STAGE, {}).get("facts", {}),
        start=policies.base,
    )
    return Source(folder, base, recipe.model.trust_remote_code, policies.quantized, policies.chat, origin)


def _is_fitted(policies: Policies, t: int) -> bool:
    """Whether the policy after t rounds is there and its fit finished: a kill may have come in between."""
    key = layout.round_folder(t - 1).stage("fit")
    return policies.store.finished(key) and policies.exists(PolicyRef(t))


def _best(store: Store, recipe: Recipe) -> Best:
    """The run's best evaluated policy.

    Raises:
        ValueError: no policy is evaluated, none has the figure, or none is better than the start.
    """
    if recipe.evaluation.every is None:
        raise ValueError(
            f"--best: {store.root} did not evaluate its policies while it went on. Give its `sparring run` command "
            "with --set evaluation.every=1, which evaluates those on disk and trains none; or choose with --round."
        )
    best = best_after(store.manifest, recipe, recipe.rounds)
    if best is None:
        raise ValueError(
            f"--best: {store.root} evaluated no policy with a {recipe.evaluation.best_by} yet (evaluation.best_by). "
            "Go on with `sparring run`, or choose with --round."
        )
    if best["round"] == 0:
        raise ValueError(f"--best: {in_words(best)} The start needs no export; --round takes a policy all the same.")
    return best


def _summary(store: Store, recipe: Recipe, t: int) -> Summary | None:
    """What the run's evaluation says of the policy after t rounds; `rounds` may have grown since it was written."""
    if layout.is_finished(store.manifest, t) and (store.root / layout.SUMMARY).exists():
        summary = read_summary(store.root / layout.SUMMARY)
        if summary["recipe"]["rounds"] == t:
            return summary
    every, file = recipe.evaluation.every is not None, store.root / layout.judged_policy(t)
    if every and t in recipe.evaluated_rounds() and store.finished(layout.evaluation_stage("judge", t)):
        return from_json(read_object(file, "judgments", "checks", "warnings", "samples"))
    return None


def export(source: Source, out: Path, dtype: str, licence: str | None = None) -> dict[str, Any]:
    """Write the folder; returns the content of its export.json.

    Raises:
        ValueError: `out` holds files already or another process writes it, or the source cannot be loaded.
    """
    with locked_path(out):
        return _export(source, out, dtype, licence)


def _export(source: Source, out: Path, dtype: str, licence: str | None) -> dict[str, Any]:
    transformers.utils.logging.disable_progress_bar()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder. Give another --out, or remove it.")
    with folder_beside(out, hidden=True) as partial:
        model, tokenizer = _merged(source, DTYPES[dtype]), _tokenizer(source)
        _check_vocabulary(source, model, tokenizer)
        if source.chat is not None:
            set_end(model.generation_config, source.chat)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        record = {
            "dtype": dtype,
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights": hash_weights(partial),
            "source_weights": source.origin.weights if source.origin else hash_weights(source.folder),
            "merged_adapter": source.base is not None,
        }
        write_json(partial / "export.json", record)
        write_text(partial / "README.md", model_card(out.name, source.origin, record, licence))
        if out.exists():
            out.rmdir()
    return record


def _merged(source: Source, dtype: torch.dtype) -> PreTrainedModel:
    if source.base is None:
        return load_model(source.folder, dtype, source.trust_remote_code)
    # In float32: merging in bfloat16 rounds the small update away.
    if source.quantized:  # the adapter belongs to the rounded base, not to the one before
        quantised: Any = load_quantised(source.base, torch.float32, torch.float32, source.trust_remote_code)
        base = quantised.dequantize().float().cpu()
    else:
        base = load_model(source.base, torch.float32, source.trust_remote_code)
    merged: Any = load_adapter(base, source.folder, False)
    return merged.merge_and_unload().to(dtype).eval()


def _tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The policy's own tokenizer, which has the template that it was trained with; else the base's."""
    own = any((source.folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json"))
    folder = source.folder if own or source.base is None else source.base
    return load_tokenizer(folder, source.trust_remote_code)


def _check_vocabulary(source: Source, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError where the tokenizer's words go beyond the embedding; added ones may, as Gemma 3's do."""
    embedding: Any = model.get_input_embeddings()
    rows = len(embedding.weight)
    if tokenizer.vocab_size > rows:
        remedy = "Give the tokenizer that belongs to it." if source.base is None else "--base: give the adapter's own."
        raise ValueError(f"the tokenizer has {tokenizer.vocab_size} words, but the model embeds {rows}. {remedy}")


def push(folder: Path, name: str, private: bool, token: str) -> str:
    """Upload an exported folder to the hub as `name`; returns its address.

    Raises:
        ValueError: the hub refuses; the folder stays.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=name, commit_message="Exported by sparring")
    except Exception as error:  # the hub's refusals, its client's and the network's errors have no common class
        raise ValueError(
            f"--push {name!r}: the hub did not take it ({reason_of(error)}). The folder {str(folder)!r} is "
            f"complete; when the cause is removed, send it with: hf upload {name} {folder}"
        ) from error
    return f"https://huggingface.co/{name}"


def hub_token(name: str) -> str:
    """The token of the hub, asked for before any work is done.

    Raises:
        ValueError: there is none, or `name` is not org/name.
    """
    from huggingface_hub import get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"--push {name!r}: {error}") from error
    token = get_token()
    if token is None:
        raise ValueError("--push needs a token of the hub: run `hf auth login`, or set HF_TOKEN.")
    return token
