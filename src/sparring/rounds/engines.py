"""Engines that sample from a run's policies: in this process, or vLLM in one of its own.

One policy (or mixture) is in memory at a time. A served policy is recognised by the log-probabilities of a few prompts.
Leaves out: which responses are drawn (`sample.py`), how tokens are chosen (`sampling/`).

    PolicyEngines(policies, draw, recipe.sampling).get((PolicyRef(1),)).sample(requests)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from sparring.algorithms.algorithm import Draw, PolicyRef
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.policies import Policies
from sparring.runtime.memory import release_memory
from sparring.sampling.check import check_sampling
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.sampling.vllm_child import fingerprint
from sparring.sampling.vllm_engine import ServedPolicy, VllmEngine

PROBE_PROMPTS, PROBE_TOKENS = 4, 24
"""by which a served policy is recognised"""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class PolicyEngines:
    """The engine of the policies last asked for: one policy (or mixture) in memory at a time."""

    def __init__(self, policies: Policies, draw: Draw, settings: SamplingConfig) -> None:
        self.policies, self.draw, self.settings = policies, draw, settings
        self.current: tuple[PolicyRef, ...] = ()
        self.engine: TransformersEngine | None = None

    def get(self, refs: tuple[PolicyRef, ...]) -> TransformersEngine:
        """The engine in this process of a policy or a mixture."""
        if self.engine is None or refs != self.current:
            self.engine = None  # frees the policy before the next one is loaded
            self.engine, self.current = self._make(refs), refs
        return self.engine

    def _make(self, refs: tuple[PolicyRef, ...]) -> TransformersEngine:
        dtype = DTYPES[self.settings.precision]
        models = [
            (self.policies.load(ref, dtype, place=place), self.draw.policies[ref]) for place, ref in enumerate(refs)
        ]
        if self.policies.untried:
            for model, _ in models:
                check_sampling(model)
        end_ids = self.policies.chat.end_ids(models[0][0].generation_config)
        return TransformersEngine(models, self.settings, end_ids)

    def serve(self, refs: tuple[PolicyRef, ...], requests: Sequence[Request], log: Path) -> VllmEngine:
        """vLLM for one policy, with what it is recognised by: log-probabilities of some prompts, and its weights."""
        (ref,) = refs
        keep = self.policies.keeps_vllm
        # On the CPU: vLLM may cut a policy over several devices because one cannot hold it.
        model = self.policies.load(ref, DTYPES[self.settings.precision], torch.device("cpu"))
        folder, adapter = self.policies.stored(ref)
        lora, config = self.policies.model.lora, model.config.get_text_config()
        # The first tokens of a few different prompts: a log-probability needs at least two.
        starts = dict.fromkeys(tuple(request.prompt_ids[:PROBE_TOKENS]) for request in requests)
        probe_ids = [list(ids) for ids in starts if len(ids) > 1][:PROBE_PROMPTS]
        policy = ServedPolicy(
            name=str(ref),
            start=self.policies.base,
            folder=folder,
            adapter=adapter,
            adapter_rank=0 if lora is None else lora.rank,
            trust_remote_code=self.policies.model.trust_remote_code,
            vocabulary=config.vocab_size,
            window=getattr(config, "max_position_embeddings", 0),
            probe_ids=probe_ids,
            probe_logps=[prompt_logps(model, ids) for ids in probe_ids],
            fingerprint=fingerprint(model.parameters()) if keep and lora is None else None,
        )
        end_ids = self.policies.chat.end_ids(model.generation_config)
        del model
        release_memory()  # vLLM wants the device for itself
        return VllmEngine(policy, self.settings, end_ids, log, keep)


@torch.inference_mode()
def prompt_logps(model: PreTrainedModel, ids: list[int]) -> list[float]:
    """Log-probability of every token but the first."""
    tokens = torch.tensor([ids], device=model.device)
    logps = model(input_ids=tokens).logits[0, :-1].float().log_softmax(-1)
    return logps.gather(1, tokens[0, 1:, None])[:, 0].tolist()
