"""Engines that sample from a run's policies: in this process, or vLLM in one of its own.

One policy (or mixture) is in memory at a time. A served policy is recognised by the log-probabilities of a few prompts.
Leaves out: which responses are drawn (`sample.py`), how tokens are chosen (`sampling/`).

    PolicyEngines(policies, draw, recipe.sampling).get((PolicyRef(1),)).sample(requests)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from sparring.algorithms.algorithm import Draw, PolicyRef
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.policies import Policies
from sparring.runtime.gpus import device_type
from sparring.runtime.memory import release_memory
from sparring.runtime.precision import computed
from sparring.sampling.check import check_sampling
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.sampling.vllm_child import fingerprint
from sparring.sampling.vllm_engine import ServedPolicy, VllmEngine, end_kept

PROBE_PROMPTS, PROBE_TOKENS = 4, 24
"""by which a served policy is recognised"""
SERVED = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""what vLLM computes in, whatever the machine"""


@contextlib.contextmanager
def held_engines(policies: Policies) -> Iterator[None]:
    """Inside, engines stay from one draw to the next of the same policy: games ask in many small waves."""
    policies.held = {}
    try:
        yield
    finally:
        policies.held = None
        if not policies.keeps_vllm:
            end_kept()
        release_memory()


class PolicyEngines:
    """The engine of the policies last asked for: one policy (or mixture) in memory at a time."""

    def __init__(self, policies: Policies, draw: Draw, settings: SamplingConfig) -> None:
        self.policies, self.draw, self.settings = policies, draw, settings
        self.current: tuple[PolicyRef, ...] = ()
        self.engine: TransformersEngine | None = None
        self.served: ServedPolicy | None = None
        self.end_ids: frozenset[int] = frozenset()

    @classmethod
    def of(cls, policies: Policies, draw: Draw, settings: SamplingConfig) -> PolicyEngines:
        """Those that are held for this draw, or new ones; warm models keep themselves, under other engines."""
        if policies.held is None or policies.warm is not None:
            return cls(policies, draw, settings)
        key = policies.worker_key(draw.policies, list(draw.policies.items()), settings)
        if key not in policies.held:
            policies.held.clear()  # frees them before the next are loaded
            policies.held[key] = cls(policies, draw, settings)
        return policies.held[key]

    def get(self, refs: tuple[PolicyRef, ...]) -> TransformersEngine:
        """The engine in this process of a policy or a mixture."""
        if self.engine is None or refs != self.current:
            self.engine = None  # frees the policy before the next one is loaded
            self.engine, self.current = self._make(refs), refs
        return self.engine

    def _make(self, refs: tuple[PolicyRef, ...]) -> TransformersEngine:
        dtype = computed(self.settings.precision, device_type())
        models = [
            (self.policies.load(ref, dtype, place=place), self.draw.policies[ref]) for place, ref in enumerate(refs)
        ]
        if self.policies.untried:
            for model, _ in models:
                check_sampling(model)
        end_ids = self.policies.chat.end_ids(models[0][0].generation_config)
        return TransformersEngine(models, self.settings, end_ids)

    def serve(self, refs: tuple[PolicyRef, ...], requests: Sequence[Request], log: Path) -> VllmEngine:
        """vLLM for one policy, which it proves to serve by log-probabilities of some prompts and by its weights."""
        keep = self.policies.keeps_vllm or self.policies.held is not None
        if self.served is None or refs != self.current:
            self.served, self.current = self._recognised(refs, requests, keep), refs
        return VllmEngine(self.served, self.settings, self.end_ids, log, keep)

    def _recognised(self, refs: tuple[PolicyRef, ...], requests: Sequence[Request], keep: bool) -> ServedPolicy:
        """The policy's files and what it is recognised by."""
        (ref,) = refs
        # On the CPU: vLLM may cut a policy over several devices because one cannot hold it.
        model = self.policies.load(ref, SERVED[self.settings.precision], torch.device("cpu"))
        folder, adapter = self.policies.stored(ref)
        lora, config = self.policies.model.lora, model.config.get_text_config()
        # The first tokens of a few different prompts: a log-probability needs at least two.
        starts = dict.fromkeys(tuple(request.prompt_ids[:PROBE_TOKENS]) for request in requests)
        probe_ids = [list(ids) for ids in starts if len(ids) > 1][:PROBE_PROMPTS]
        served = ServedPolicy(
            name=str(ref),
            start=self.policies.base,
            folder=folder,
            adapter=adapter,
            adapter_hash="" if adapter is None else self.policies.hash(ref),
            adapter_rank=0 if lora is None else lora.rank,
            trust_remote_code=self.policies.model.trust_remote_code,
            vocabulary=config.vocab_size,
            window=getattr(config, "max_position_embeddings", 0),
            probe_ids=probe_ids,
            probe_logps=[prompt_logps(model, ids) for ids in probe_ids],
            fingerprint=fingerprint(model.parameters()) if keep and lora is None else None,
        )
        self.end_ids = self.policies.chat.end_ids(model.generation_config)
        del model
        release_memory()  # vLLM wants the device for itself
        return served


@torch.inference_mode()
def prompt_logps(model: PreTrainedModel, ids: list[int]) -> list[float]:
    """Log-probability of every token but the first."""
    tokens = torch.tensor([ids], device=model.device)
    logps = model(input_ids=tokens).logits[0, :-1].float().log_softmax(-1)
    return logps.gather(1, tokens[0, 1:, None])[:, 0].tolist()
