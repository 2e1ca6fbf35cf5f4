"""Sampling with transformers: batches, left padding, K responses share their prompt's prefill.

Every row has noise of its own (one uniform number per token from the row's seed, mapped through the inverse
of the cumulative distribution), so a response depends on its seed and not on its neighbours beyond rounding.
Rows that ended leave the batch. Several weighted models give a token-level geometric mixture. Leaves out:
continuous batching (a served engine's work).

    TransformersEngine([(model, 1.0)], settings, end_ids).sample(requests)

Shape suffixes: B rows of a batch, P its distinct prompts, T tokens of a row so far, Q those of them that are fed at
once, S tokens that may be sampled (`max_new_tokens`), V vocabulary, K likeliest tokens, A rows that have not ended.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from sparring.models.architecture import STATE, new_cache
from sparring.models.weights import plain_attention
from sparring.recipe.sections import SamplingConfig
from sparring.sampling.attention import DECODE_ATTENTION
from sparring.sampling.engine import Request, Response

NUCLEUS = 512
"""Tokens looked at first for top_p; the whole vocabulary is sorted only when they hold less mass than that."""
COMPACT_AT = 0.75
"""Finished rows leave when no more than this share of the batch is alive: copying the cache has a price."""


Caches = dict[str, DynamicCache]
"""a model's cache, by the name under which it takes it"""


@dataclass(slots=True)
class _Batch:
    """Rows being sampled, and the state of each model."""

    rows: list[int]
    """B places among the batch's requests"""
    uniforms_BS: Float[Tensor, "B S"]
    """a uniform number in [0, 1) for each token that a row may get"""
    mask_BT: Int[Tensor, "B T"]
    """1 on tokens, 0 on the padding left of a prompt"""
    caches: list[Caches]
    """one per model"""
    logps_BV: Float[Tensor, "B V"]
    """of the next token; with one model its logits, which give the same choice"""


class TransformersEngine:
    """Draws from one model, or from the token-geometric mixture of several."""

    def __init__(
        self, models: Sequence[tuple[PreTrainedModel, float]], settings: SamplingConfig, end_ids: frozenset[int]
    ) -> None:
        self.models = list(models)
        self.settings = settings
        self.end_ids = end_ids
        self.device = models[0][0].device
        for model, _ in self.models:
            if not new_cache(model):
                raise ValueError(
                    f"model: {type(model).__name__} takes no cache, so it cannot be sampled in this process. Use "
                    "sampling.engine: vllm if it serves this architecture, or another model."
                )
            plain = plain_attention(model)
            fast = self.device.type == "cpu" and plain == "sdpa"
            model.set_attn_implementation(DECODE_ATTENTION if fast else plain)

    @torch.inference_mode()
    def sample(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request, in order; batches are consecutive requests."""
        size = self.settings.batch_size
        batches = (requests[begin : begin + size] for begin in range(0, len(requests), size))
        return [response for batch in batches for response in self._sample_batch(batch)]

    def _sample_batch(self, requests: Sequence[Request]) -> list[Response]:
        tokens: list[list[int]] = [[] for _ in requests]
        ended = [False] * len(requests)
        batch = self._prefill(requests)
        for step in range(self.settings.max_new_tokens):
            chosen_B = self._choose(batch.logps_BV, batch.uniforms_BS[:, step])
            for row, token in zip(batch.rows, chosen_B.tolist(), strict=True):
                if not ended[row]:
                    tokens[row].append(token)
                    ended[row] = token in self.end_ids
            # A row that ended keeps its place (and is fed on) until enough have.
            alive = [place for place, row in enumerate(batch.rows) if not ended[row]]
            if not alive or step + 1 == self.settings.max_new_tokens:
                break
            if len(alive) <= COMPACT_AT * len(batch.rows):
                alive_A = torch.tensor(alive, device=self.device)
                batch = self._select(batch, alive_A)
                chosen_B = chosen_B[alive_A]
            self._advance(batch, chosen_B)
        return [Response(row, "stop" if end else "length") for row, end in zip(tokens, ended, strict=True)]

    def _prefill(self, requests: Sequence[Request]) -> _Batch:
        """Run each distinct prompt once, then repeat its state for its rows."""
        groups = [(list(k), len(list(g))) for k, g in itertools.groupby(tuple(r.prompt_ids) for r in requests)]
        width = max(len(ids) for ids, _ in groups)
        ids_PT = torch.zeros(len(groups), width, dtype=torch.long)
        mask_PT = torch.zeros_like(ids_PT)
        for row, (ids, _) in enumerate(groups):
            ids_PT[row, width - len(ids) :] = torch.tensor(ids)
            mask_PT[row, width - len(ids) :] = 1
        ids_PT, mask_PT = ids_PT.to(self.device), mask_PT.to(self.device)
        positions_PT = (mask_PT.cumsum(1) - 1).clamp_min(0)
        caches = [new_cache(model) for model, _ in self.models]
        logps_PV = self._logps(ids_PT, mask_PT, positions_PT, caches)
        counts = torch.tensor([count for _, count in groups], device=self.device)
        rows_B = torch.repeat_interleave(torch.arange(len(groups), device=self.device), counts)
        keep(caches, rows_B)
        uniforms_BS = torch.stack([self._uniforms(request.seed) for request in requests]).to(self.device)
        return _Batch(list(range(len(requests))), uniforms_BS, mask_PT[rows_B], caches, logps_PV[rows_B])

    def _uniforms(self, seed: int) -> Float[Tensor, " S"]:
        # Made on the CPU: devices draw other numbers from the same seed.
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(self.settings.max_new_tokens, generator=generator, dtype=torch.float64)

    def _select(self, batch: _Batch, alive_A: Int[Tensor, " A"]) -> _Batch:
        """The batch of the rows at these places alone."""
        keep(batch.caches, alive_A)
        rows = [batch.rows[place] for place in alive_A.tolist()]
        uniforms, mask, logps = (x[alive_A] for x in (batch.uniforms_BS, batch.mask_BT, batch.logps_BV))
        return _Batch(rows, uniforms, mask, batch.caches, logps)

    def _advance(self, batch: _Batch, chosen_B: Int[Tensor, " B"]) -> None:
        """Feed the chosen tokens and refresh the next-token log-probabilities."""
        ones = torch.ones_like(batch.mask_BT[:, :1])
        batch.mask_BT = torch.cat([batch.mask_BT, ones], dim=1)
        positions_B1 = batch.mask_BT.sum(1, keepdim=True) - 1
        batch.logps_BV = self._logps(chosen_B[:, None], batch.mask_BT, positions_B1, batch.caches)

    def _logps(
        self,
        ids_BQ: Int[Tensor, "B Q"],
        mask_BT: Int[Tensor, "B T"],
        positions_BQ: Int[Tensor, "B Q"],
        caches: list[Caches],
    ) -> Float[Tensor, "B V"]:
        """B x V: next-token log-probabilities, float32: sum_k w_k log p_k for several models, logits for one."""
        common: dict[str, Any] = {"input_ids": ids_BQ, "position_ids": positions_BQ, "logits_to_keep": 1}
        parts: list[Float[Tensor, "B V"]] = []
        for (model, weight), cache in zip(self.models, caches, strict=True):
            # Models without attention multiply the mask with the tokens that are fed, not with all that were.
            mask = mask_BT[:, -ids_BQ.shape[1] :] if STATE in cache else mask_BT
            output = model(attention_mask=mask, use_cache=True, **cache, **common)
            logits = output.logits[:, -1].float()
            parts.append(weight * logits.log_softmax(-1) if len(self.models) > 1 else logits)
        return functools.reduce(torch.add, parts)

    def _choose(self, logps_BV: Float[Tensor, "B V"], uniforms_B: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        """B: a token per row by the inverse cumulative distribution; temperature 0 is greedy."""
        if self.settings.temperature == 0:
            return logps_BV.argmax(-1)
        probs_BV = (logps_BV / self.settings.temperature).softmax(-1)
        if self.settings.top_p < 1:
            return _nucleus(probs_BV, uniforms_B, self.settings.top_p)
        return _inverse_cdf(probs_BV, uniforms_B)


def keep(caches: Sequence[Caches], places_A: Int[Tensor, " A"]) -> None:
    """Make the rows at these places (some may be there twice) the rows of every cache, in place."""
    for cache in caches:
        for part in cache.values():
            part.reorder_cache(places_A)  # type: ignore[arg-type]


def _inverse_cdf(probs_BV: Float[Tensor, "B V"], uniforms_B: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """B: the first index whose cumulative mass exceeds the uniform number times the total mass."""
    mass_BV = probs_BV.cumsum(-1)
    total_B1 = mass_BV[:, -1:]
    wanted_B1 = (uniforms_B[:, None] * total_B1).to(mass_BV.dtype)
    # Rounding may lift a number to the total mass, and the search would then return the vocabulary's last token, which
    # may have no mass at all.
    wanted_B1 = torch.minimum(wanted_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    return torch.searchsorted(mass_BV, wanted_B1, right=True)[:, 0]


def _nucleus(probs_BV: Float[Tensor, "B V"], uniforms_B: Float[Tensor, " B"], top_p: float) -> Int[Tensor, " B"]:
    """B: a token from the smallest set of likeliest tokens whose mass reaches top_p."""
    top_BK, token_BK = probs_BV.topk(min(NUCLEUS, probs_BV.shape[-1]), dim=-1)
    chosen_B = _within(top_BK, token_BK, uniforms_B, top_p)
    flat = (top_BK.sum(-1) < top_p).nonzero()[:, 0]
    if len(flat):  # sorting a vocabulary is slow: only in the rows whose K likeliest tokens hold too little mass
        top_BK, token_BK = probs_BV[flat].sort(dim=-1, descending=True, stable=True)
        chosen_B[flat] = _within(top_BK, token_BK, uniforms_B[flat], top_p)
    return chosen_B


def _within(
    top_BK: Float[Tensor, "B K"], token_BK: Int[Tensor, "B K"], uniforms_B: Float[Tensor, " B"], top_p: float
) -> Int[Tensor, " B"]:
    """B: a token of the nucleus, from probabilities in falling order and the tokens that have them."""
    before_BK = top_BK.cumsum(-1) - top_BK  # the first token that reaches top_p still belongs to the nucleus
    nucleus_BK = torch.where(before_BK < top_p, top_BK, 0.0)
    return token_BK.gather(1, _inverse_cdf(nucleus_BK, uniforms_B)[:, None])[:, 0]
