"""The folders of a run's policies and loading their weights: the start model, and one folder per iterate.

Iterate t is `rounds/<t-1>/policy`; another seat's is `rounds/<t-1>/<seat>/policy`. With LoRA these hold
adapters over the start model. Leaves out: training them.

    Policies(store, recipe.model, recipe.fit.precision).load(PolicyRef(2), torch.bfloat16)
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from sparring.algorithms.algorithm import REFERENCE, PolicyRef
from sparring.fleet.folders import folder_key
from sparring.fleet.work import Places
from sparring.models.chat import Chat
from sparring.models.generation import writable_generation
from sparring.models.identity import hash_weights, reading_files
from sparring.models.weights import load_model, load_tokenizer, refuse_code, resolve_model
from sparring.oracles.build import build_oracle
from sparring.oracles.oracle import Oracle
from sparring.recipe.sections import ModelConfig
from sparring.rounds.state import kept_rounds
from sparring.rounds.store import Store
from sparring.rounds.warm import Warm
from sparring.runtime.devices import on_device
from sparring.runtime.errors import first_line
from sparring.runtime.files import folder_beside, read_object, write_json
from sparring.runtime.gpus import device_type
from sparring.runtime.layout import DATA_STAGE, LOCK, round_folder
from sparring.runtime.precision import computed
from sparring.training.adapters import load_adapter, with_adapter
from sparring.training.quantised import load_quantised


def start_folder(model: ModelConfig) -> Path:
    """The folder of a recipe's start model; fetches what a hub or package holds."""
    return resolve_model(model.path, model.revision)


class Policies:
    """The start model and the policies that a store's rounds trained from it."""

    def __init__(
        self, store: Store, model: ModelConfig, precision: Literal["bfloat16", "float32"] = "bfloat16"
    ) -> None:
        """`precision`: of the fits' matrix products, which a base in 4 bits computes in everywhere."""
        self.store, self.model, self.precision = store, model, precision
        self.untried = True
        """whether no preflight has tried the model: it is then tried when it is sampled from"""
        self.base = start_folder(model)
        self.cwd = Path.cwd()
        """what relative paths are relative to: a worker of a cluster is in another folder"""
        self.places: Mapping[str, Path] = {}
        """on a worker of a cluster: where it has the folders of trained policies, by their path in the run"""
        self.warm: Warm | None = None
        """models and judges that stay in memory; None: each stage loads its own"""
        self.keeps_vllm = False
        """whether vLLM stays for the next policy, here or on workers of a cluster"""
        self.held: dict[str, Any] | None = None
        """the engines that were used last, by what they depend on, while a stage asks in waves; None: none stay"""
        refuse_code(self.base, model.trust_remote_code)

    def __repr__(self) -> str:
        """The run's folder and the start model."""
        return f"Policies({str(self.store.root)!r}, start {self.model.path})"

    def __getstate__(self) -> dict[str, Any]:
        """The attributes that other ranks and workers get: all but the tokenizer and what is kept in memory."""
        return {name: value for name, value in vars(self).items() if name != "chat"} | {"warm": None, "held": None}

    @cached_property
    def base_hash(self) -> str:
        """Hash of the start model's weights."""
        return hash_weights(self.base)

    @cached_property
    def chat(self) -> Chat:
        """The start model's tokenizer and template."""
        tokenizer = load_tokenizer(self.base, self.model.trust_remote_code)
        return Chat(tokenizer, self.model.chat_template, self.model.system, self.day)

    @cached_property
    def day(self) -> date:
        """What the template takes for today: the recipe's date, or the day on which the folder's work began."""
        stored = self._lock().get("date")
        # A run of an earlier version kept no date: that of its data.
        prepared = self.store.manifest.get(DATA_STAGE, {}).get("finished", "")[: len("2026-01-31")]
        return self.model.date or date.fromisoformat(stored or prepared or date.today().isoformat())

    def keep_day(self) -> None:
        """Write the day to lock.json, so that a run has the same prompts when it is resumed on another day."""
        lock = self._lock()
        if lock.get("date") != self.day.isoformat():
            write_json(self.store.path(LOCK), {**lock, "date": self.day.isoformat()})

    def _lock(self) -> dict[str, Any]:
        path = self.store.root / LOCK
        return read_object(path) if path.exists() else {}

    def location(self, ref: PolicyRef) -> str:
        """Folder of a trained policy, relative to the run."""
        return round_folder(ref.round - 1, ref.seat).policy

    def hash(self, ref: PolicyRef) -> str:
        """Hash that identifies the policy's weights; an adapter's covers its base."""
        if ref.round == 0:
            return self.base_hash
        folder = round_folder(ref.round - 1, ref.seat)
        own = self.store.output_hash(folder.stage("fit"), folder.policy)
        if self.model.lora is None:
            return own
        return hashlib.sha256(f"{self.base_hash}+{own}".encode()).hexdigest()

    def files_hash(self, ref: PolicyRef) -> str:
        """Hash of all that its answers depend on beside the weights: configuration, tokenizer, template, adapter."""
        files = [reading_files(folder) for folder in self.stored(ref) if folder is not None]
        return hashlib.sha256(repr(files).encode()).hexdigest()

    def worker_key(self, refs: Iterable[PolicyRef], *settings: object) -> str:
        """Equal where a worker may keep the policies that it has loaded: weights, files, template, precision."""
        named = [(self.hash(ref), self.files_hash(ref)) for ref in refs]
        how = self.model.model_dump_json(), self.precision, self.chat.identity
        return hashlib.sha256(repr((named, how, settings)).encode()).hexdigest()

    def folders(self, refs: Iterable[PolicyRef]) -> dict[str, Path]:
        """The folders that loading these policies reads, by a key of their content."""
        named = {folder_key(self.base_hash, repr(reading_files(self.base))): self.cwd / self.base}
        trained = [ref for ref in refs if ref.round > 0]
        return named | {
            folder_key(self.hash(ref), self.files_hash(ref)): self.cwd / self.folder(ref) for ref in trained
        }

    def at(self, places: Places, root: Path | None = None) -> Policies:
        """These policies with their folders elsewhere, as a worker of a cluster has them; new ones go to `root`."""
        if not places and root in (None, self.store.root) and Path.cwd() == self.cwd:
            return self  # with its tokenizer
        there, own, base = copy.copy(self), self.cwd / self.store.root, self.cwd / self.base
        there.base = places.get(base, self.base if Path.cwd() == self.cwd else base)
        there.places = {str(o.relative_to(own)): place for o, place in places.items() if o.is_relative_to(own)}
        there.store = copy.copy(self.store)
        there.store.root = own if root is None else root
        return there

    def exists(self, ref: PolicyRef) -> bool:
        """Whether the policy is still on disk."""
        return ref.round == 0 or (self.store.root / self.location(ref)).exists()

    def load(
        self, ref: PolicyRef, dtype: torch.dtype, device: torch.device | None = None, place: int = 0
    ) -> PreTrainedModel:
        """A policy for sampling: one plain model, an adapter merged in float32 first (but beside a base in 4 bits).

        `device`: None for this process's accelerator, where it has one. `place`: among the policies of a mixture, which
        are in memory together.
        """
        if self.model.lora is None or ref.round == 0:
            load = partial(self._whole_on_device, ref, dtype, device)
            return load() if self.warm is None else self._kept(f"sample {place} {dtype} {device}", ref, load)
        if self.quantized:
            beside: Any = load_adapter(self._whole(REFERENCE, dtype), self.folder(ref), False)
            return beside.get_base_model().eval()
        adapted: Any = load_adapter(self._whole(REFERENCE, torch.float32), self.folder(ref), False)
        model = adapted.merge_and_unload().to(dtype).eval()
        return on_device(model) if device is None else model.to(device)

    def _whole_on_device(self, ref: PolicyRef, dtype: torch.dtype, device: torch.device | None) -> PreTrainedModel:
        model: Any = self._whole(ref, dtype)
        return on_device(model) if device is None else model.to(device)

    def _kept(self, use: str, ref: PolicyRef, load: Callable[[], Any], changes: bool = False) -> Any:
        """A whole model that stays in memory for this use, with the policy's weights."""
        assert self.warm is not None
        folder = self.base if ref.round == 0 else self.folder(ref)
        model = self.warm.model(use, self.hash(ref), folder, load, changes)
        with contextlib.suppress(OSError):  # a model without them has the settings of its configuration
            model.generation_config = writable_generation(GenerationConfig.from_pretrained(folder))
        return model

    @property
    def quantized(self) -> bool:
        """Whether the base is held in 4 bits."""
        lora = self.model.lora
        return lora is not None and lora.quantize is not None

    def stored(self, ref: PolicyRef) -> tuple[Path, Path | None]:
        """The folders of the policy's weights: a model's, and an adapter's over it or None."""
        if ref.round == 0:
            return self.base, None
        return (self.folder(ref), None) if self.model.lora is None else (self.base, self.folder(ref))

    def whole_weights(self, round_: int) -> Path:
        """The folder of a policy's weights. Raises ValueError: they are an adapter over the start model."""
        folder, adapter = self.stored(PolicyRef(round_))
        if adapter is not None:
            raise ValueError(
                f"{self.store.root}:{round_} is an adapter over its start model. Merge it first: sparring export "
                f"{self.store.root} --round {round_} --out FOLDER --dtype float32, and give that folder."
            )
        return folder

    def load_scoring(self, ref: PolicyRef) -> nn.Module:
        """A policy for anchors: float32, on the CPU, in the form the fit uses (adapter beside its base)."""
        if self.model.lora is None or ref.round == 0:
            load = partial(self._whole, ref, torch.float32)
            use = "reference" if ref.round == 0 else "trained"
            return load() if self.warm is None else self._kept(use, ref, load)
        return load_adapter(self._whole(REFERENCE, torch.float32), self.folder(ref), False).eval()

    def load_training(self, start: PolicyRef) -> nn.Module:
        """A policy to be trained, float32, on the CPU: all weights, or an adapter (fresh in round 0)."""
        if self.model.lora is None:
            load = partial(self._whole, start, torch.float32)
            return load() if self.warm is None else self._kept("trained", start, load, changes=True)
        base = self._whole(REFERENCE, torch.float32)
        if start.round == 0:
            return with_adapter(base, self.model.lora)
        return load_adapter(base, self.folder(start), True)

    def oracle(self, section: Mapping[str, Any]) -> Oracle:
        """The oracle of a recipe's section."""
        build = partial(build_oracle, section, str(self.base))
        return build() if self.warm is None else self.warm.oracle(section, build)

    def _whole(self, ref: PolicyRef, dtype: torch.dtype) -> PreTrainedModel:
        if self.quantized:
            compute = computed(self.precision, device_type())
            return load_quantised(self.base, dtype, compute, self.model.trust_remote_code)
        folder = self.base if ref.round == 0 else self.folder(ref)
        return load_model(folder, dtype, self.model.trust_remote_code)

    def save(self, model: nn.Module, ref: PolicyRef, weights: Mapping[str, Float[Tensor, " ..."]] | None = None) -> str:
        """Write a trained policy in Hugging Face format; returns its folder relative to the run.

        `weights` stand in for the model's own where these are sharded over devices.
        """
        relative = self.location(ref)
        target = self.store.path(relative)
        with folder_beside(target) as partial:
            if self.model.lora is None:
                set_end(model.generation_config, self.chat)
            model.save_pretrained(partial, state_dict=weights)  # type: ignore[operator]
            if self.model.chat_template is not None:  # servers render prompts as training did
                self.chat.tokenizer.chat_template = self.chat.template
            self.chat.tokenizer.save_pretrained(partial)
            shutil.rmtree(target, ignore_errors=True)
        return relative

    def try_saving(self, model: PreTrainedModel) -> None:
        """Write all of a policy but its weights into a folder that is gone afterwards.

        Raises:
            ValueError: transformers refuses it, as it would after the fit.
        """
        settings: Any = copy.deepcopy(model.generation_config)
        set_end(settings, self.chat)
        with tempfile.TemporaryDirectory() as folder:
            for name, part in (
                ("config.json", model.config),
                ("generation_config.json", settings),
                ("tokenizer", self.chat.tokenizer),
            ):
                try:
                    part.save_pretrained(folder)
                except OSError:
                    raise
                except Exception as error:
                    raise ValueError(
                        f"model: the {name} of {str(self.base)!r} can be read but not written ({first_line(error)}), "
                        "so no policy could be saved. Correct the file."
                    ) from error

    def folder(self, ref: PolicyRef) -> Path:
        """The folder of a trained policy.

        Raises:
            ValueError: it is not on disk.
        """
        folder = self.places.get(self.location(ref), self.store.root / self.location(ref))
        if not folder.exists() and round_folder(ref.round - 1, ref.seat).stage("fit") not in self.store.manifest:
            raise ValueError(
                f"{self.store.root} has no {ref.title} yet: finish it with `sparring run`, or name an earlier one "
                f"({self.store.root}:{ref.round - 1})."
            )
        if not folder.exists():
            kept = ", ".join(map(str, kept_rounds(self.store.root, self.store.manifest, ref.seat))) or "none"
            raise ValueError(
                f"{self.store.root}: {ref.title} was not kept (keep_iterates, keep_every). On disk, beside the start: "
                f"{kept}."
            )
        return folder


def set_end(settings: Any, chat: Chat) -> None:
    """Have `generate` and servers end responses where training did; a base model's settings lack the template's end."""
    settings.eos_token_id = sorted(chat.end_ids(settings))
