"""A key-value cache with room behind its last token, so that one more token is written and nothing is copied.

transformers' own growing cache copies all keys and values of a row for every token that it gets. Here a layer's tensors
hold `STEP` tokens more than it has, of zeros, and the model is told that the mask hides them, as it is with a static
cache. The tensors stay contiguous: products of strided keys are five to seven times slower on a CPU (docs/log.md).
Leaves out: layers with a window or a state, which keep their own kind.

    cache = {"past_key_values": with_room(DynamicCache(config=model.config))}

Shape suffixes: B rows, G key heads, Q tokens that are fed at once, T tokens that are stored, R those with the room
behind them, D and E widths of a key and a value head, A rows that stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

STEP = 32
"""Tokens of room that are added at once: with more of it attention reads more zeros, with less it is copied more."""


class LayerWithRoom(DynamicLayer):
    """One layer's keys and values; the tensors that `update` returns end with room, which holds zeros."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.length = 0
        """tokens that are stored"""

    def update(
        self, key_states: Float[Tensor, "B G Q D"], value_states: Float[Tensor, "B G Q E"], *args: Any, **kwargs: Any
    ) -> tuple[Float[Tensor, "B G R D"], Float[Tensor, "B G R E"]]:
        """Store the tokens behind the last one; returns all keys and values, with their room."""
        first, self.length = self.length, self.length + key_states.shape[-2]
        if not self.is_initialized:  # a prompt's tensors are kept as they are: rows are repeated before any other token
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        assert self.keys is not None
        assert self.values is not None
        missing = self._width(self.length) - self.keys.shape[-2]
        if missing > 0:
            self.keys, self.values = (F.pad(part, (0, 0, 0, missing)) for part in (self.keys, self.values))
        self.keys[:, :, first : self.length] = key_states
        self.values[:, :, first : self.length] = value_states
        return self.keys, self.values

    def _width(self, length: int) -> int:
        """Tokens with room that the tensors have once they hold `length`."""
        width = 0 if self.keys is None else self.keys.shape[-2]
        return width if length <= width else width + -(-(length - width) // STEP) * STEP

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Width and begin of the mask for the next `query_length` tokens."""
        length = self.length + query_length
        return (self._width(length) if self.is_initialized else length), 0

    def get_seq_length(self) -> int:
        """Tokens that are stored."""
        return self.length

    def reorder_cache(self, beam_idx: Int[Tensor, " A"]) -> None:  # type: ignore[override]
        """Make the rows at these places (some may be there twice) the layer's rows."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys.index_select(0, beam_idx), self.values.index_select(0, beam_idx)


def with_room(cache: DynamicCache) -> DynamicCache:
    """The empty cache, in place, with room in every layer that would grow by copying."""
    cache.layers = [LayerWithRoom() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = LayerWithRoom
    return cache


def stored(layer: Any) -> tuple[Float[Tensor, "B G T D"], Float[Tensor, "B G T E"]]:
    """Keys and values of a `LayerWithRoom` without their room."""
    return layer.keys[:, :, : layer.length], layer.values[:, :, : layer.length]


def repeat(row: DynamicCache, rows: int, into: DynamicCache) -> None:
    """Fill an empty cache with `rows` views of another's one row; the next write copies them."""
    for place, layer in enumerate(row.layers):
        keys, values = (part.expand(rows, -1, -1, -1) for part in stored(layer))
        into.update(keys, values, place)


def joinable(caches: Mapping[str, DynamicCache]) -> bool:
    """Whether `join` can make rows of several caches those of one."""
    return all(cache.layers and all(type(x) is LayerWithRoom for x in cache.layers) for cache in caches.values())


def join(caches: Sequence[DynamicCache], width: int) -> DynamicCache:
    """The rows of all caches in the first of them, with zeros on the left up to `width` tokens; one stays as it is.

    All have only read a prompt. Room that they have behind it is dropped.
    """
    if len(caches) == 1:
        return caches[0]
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        layers[0].keys, layers[0].values = (
            torch.cat([F.pad(part, (0, 0, width - part.shape[-2], 0)) for part in parts])
            for parts in zip(*map(stored, layers), strict=True)
        )
        layers[0].length = width
    return caches[0]
