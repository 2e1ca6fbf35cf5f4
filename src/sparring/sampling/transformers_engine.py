"""Sampling with transformers: batches, left padding, K responses share their prompt's prefill.

Every row has noise of its own (one uniform number per token from the row's seed, mapped through the inverse
of the cumulative distribution), so a response depends on its seed and not on its neighbours beyond rounding: products
of other numbers of rows round otherwise. Rows that ended leave the batch. On a CPU what all prompts of a batch begin
with (a system message, a judge's instructions) is run once, the rest in parts of similar length, the cache has room
(`room.py`) and weights are packed (`packed.py`). Several weighted models give a token-level geometric mixture.
Leaves out: continuous batching (a served engine's work; on a CPU time is nearly linear in rows).

    TransformersEngine([(model, 1.0)], settings, end_ids).sample(requests)

Shape suffixes: B rows of a batch, P its distinct prompts, T tokens of a row so far, Q those of them that are fed at
once, S tokens that may be sampled (`max_new_tokens`), V vocabulary, A rows that have not ended.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from sparring.models.architecture import STATE, new_cache, turns_by_length
from sparring.models.weights import plain_attention
from sparring.recipe.sections import SamplingConfig
from sparring.sampling.attention import DECODE_ATTENTION
from sparring.sampling.choice import choose
from sparring.sampling.engine import Request, Response
from sparring.sampling.packed import packed
from sparring.sampling.room import join, joinable, repeat, with_room

COMPACT_AT = 0.9
"""Finished rows leave when no more than this share of the batch is alive: copying the cache has a price."""
PACK_FROM = 16
"""Rows and tokens of a row from which packing the weights, which takes as long as a few tokens, is repaid."""
PREFILL_TOKENS = 512
"""Tokens of prompts that are run at once, at least: products of more tokens are no faster on a CPU."""

SHARED_TOKENS = 256
"""Tokens that running a common beginning once must save: it is a pass of its own."""

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

    def new_caches(self) -> list[Caches]:
        """An empty cache for each model: with room where its attention is ours and its code takes static caches."""
        caches = [new_cache(model) for model, _ in self.models]
        for (model, _), cache in zip(self.models, caches, strict=True):
            if model.config._attn_implementation == DECODE_ATTENTION and model._can_compile_fullgraph:
                for part in cache.values():
                    with_room(part)
        return caches

    @torch.inference_mode()
    def sample(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request, in order; batches are consecutive requests."""
        size = self.settings.batch_size
        batches = (requests[begin : begin + size] for begin in range(0, len(requests), size))
        worth = min(size, len(requests), self.settings.max_new_tokens) >= PACK_FROM
        with packed(*(model for model, _ in self.models if worth)):
            return [response for batch in batches for response in self._sample_batch(batch)]

    def _sample_batch(self, requests: Sequence[Request]) -> list[Response]:
        tokens: list[list[int]] = [[] for _ in requests]
        ended = [False] * len(requests)
        batch = self._prefill(requests)
        for step in range(self.settings.max_new_tokens):
            chosen_B = choose(batch.logps_BV, batch.uniforms_BS[:, step], self.settings)
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
        prompts = [ids for ids, _ in groups]
        width = max(map(len, prompts))
        caches = self.new_caches()
        joins = all(joinable(cache) for cache in caches)
        # What was read when the row was short must be what a long row would have read.
        fixed = not any(turns_by_length(model.config) for model, _ in self.models)
        shared = _shared(prompts) if joins and fixed else 0
        rests = [ids[shared:] for ids in prompts]
        parts = _parts(rests) if joins else [list(range(len(prompts)))]
        begun = self._prompt_state([prompts[0][:shared]])[2] if shared else None
        states = [self._prompt_state([rests[place] for place in part], begun) for part in parts]
        for cache, *made in zip(caches, *(state[2] for state in states), strict=True):
            for name in cache:
                cache[name] = join([one[name] for one in made], width)
        mask_PT = torch.cat([F.pad(mask, (width - mask.shape[1], 0)) for _, mask, _ in states])
        logps_PV = torch.cat([logps for logps, _, _ in states])
        where = {place: row for row, place in enumerate(itertools.chain.from_iterable(parts))}
        rows = [where[place] for place, (_, count) in enumerate(groups) for _ in range(count)]
        rows_B = torch.tensor(rows, device=self.device)
        keep(caches, rows_B)
        uniforms_BS = torch.stack([self._uniforms(request.seed) for request in requests]).to(self.device)
        return _Batch(list(range(len(requests))), uniforms_BS, mask_PT[rows_B], caches, logps_PV[rows_B])

    def _prompt_state(
        self, prompts: Sequence[list[int]], begun: list[Caches] | None = None
    ) -> tuple[Float[Tensor, "P V"], Int[Tensor, "P T"], list[Caches]]:
        """Next-token log-probabilities, mask and caches of prompts, padded on the left to their longest.

        `begun`: caches of one row, which all of them follow; the padding is between.
        """
        width = max(map(len, prompts))
        ids_PT = torch.zeros(len(prompts), width, dtype=torch.long)
        mask_PT = torch.zeros_like(ids_PT)
        for row, ids in enumerate(prompts):
            ids_PT[row, width - len(ids) :] = torch.tensor(ids)
            mask_PT[row, width - len(ids) :] = 1
        caches = self.new_caches()
        if begun is not None:
            for cache, row in zip(caches, begun, strict=True):
                for name in cache:
                    repeat(row[name], len(prompts), cache[name])
            length = next(iter(begun[0].values())).get_seq_length()
            mask_PT = F.pad(mask_PT, (length, 0), value=1)
        ids_PT, mask_PT = ids_PT.to(self.device), mask_PT.to(self.device)
        positions_PT = (mask_PT.cumsum(1) - 1).clamp_min(0)[:, -width:]
        return self._logps(ids_PT, mask_PT, positions_PT, caches), mask_PT, caches

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


def _shared(prompts: Sequence[list[int]]) -> int:
    """How many tokens all begin with, and each has one more; 0 where running them once would save too little."""
    first, last = min(prompts), max(prompts)  # what these two share, all between them do
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    length = min(sum(1 for _ in same), min(map(len, prompts)) - 1)
    return length if length * (len(prompts) - 1) >= SHARED_TOKENS else 0


def _parts(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts' places by falling length, in parts that are run together: little padding beside short prompts."""
    parts: list[list[int]] = []
    for place in sorted(range(len(prompts)), key=lambda place: -len(prompts[place])):
        if not parts or len(parts[-1]) * len(prompts[parts[-1][0]]) >= PREFILL_TOKENS:
            parts.append([])
        parts[-1].append(place)
    return parts


def keep(caches: Sequence[Caches], places_A: Int[Tensor, " A"]) -> None:
    """Make the rows at these places (some may be there twice) the rows of every cache, in place."""
    for cache in caches:
        for part in cache.values():
            part.reorder_cache(places_A)  # type: ignore[arg-type]
