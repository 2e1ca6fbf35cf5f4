"""A cache with room: the tokens of a plain cache, zeros behind them, and masks as wide as both."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from conftest import tiny_llama
from sparring.sampling.room import STEP, LayerWithRoom, join, joinable, repeat, with_room


def test_tokens_are_those_of_a_plain_cache_and_the_room_holds_zeros() -> None:
    torch.manual_seed(0)
    roomy, plain = LayerWithRoom(), DynamicCache()
    for fed in (5, 1, 1, STEP, 1):
        keys, values = torch.randn(2, 3, fed, 4), torch.randn(2, 3, fed, 6)
        width, begin = roomy.get_mask_sizes(fed)
        found = roomy.update(keys, values)
        expected = plain.update(keys, values, 0)
        length = roomy.get_seq_length()
        assert (length, begin) == (plain.get_seq_length(), 0)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape[2] == width
            assert ours.is_contiguous()
            assert torch.equal(ours[:, :, :length], theirs)
            assert not ours[:, :, length:].any()


def test_a_token_is_written_without_a_copy() -> None:
    layer = LayerWithRoom()
    layer.update(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))
    places: list[int] = []
    for _ in range(STEP):
        keys, _ = layer.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        places.append(keys.data_ptr())
    assert len(set(places)) == 1


def test_a_model_reads_the_same_from_both_caches() -> None:
    model: Any = tiny_llama()
    ids = torch.arange(1, 8)[None]
    caches = [DynamicCache(config=model.config), with_room(DynamicCache(config=model.config))]
    with torch.inference_mode():
        for begin, end in ((0, 4), (4, 5), (5, 7)):
            mask = torch.ones(1, end, dtype=torch.long)
            logits = [
                model(input_ids=ids[:, begin:end], attention_mask=mask, past_key_values=cache).logits
                for cache in caches
            ]
            torch.testing.assert_close(*logits)


def test_joined_rows_stand_on_the_right() -> None:
    def cache(rows: int, width: int) -> DynamicCache:
        made = with_room(DynamicCache(config=tiny_llama().config))
        for layer in range(len(made.layers)):
            made.update(torch.full((rows, 2, width, 4), float(width)), torch.ones(rows, 2, width, 4), layer)
        return made

    parts = [cache(1, 5), cache(2, 3)]
    assert joinable({"past_key_values": parts[0]})
    assert not joinable({"past_key_values": DynamicCache(config=tiny_llama().config)})
    both = join(parts, 5)
    assert both.get_seq_length() == 5
    keys = both.layers[-1].keys
    assert keys is not None
    assert keys[:, 0, :, 0].tolist() == [[5.0] * 5, [0.0, 0.0, 3.0, 3.0, 3.0], [0.0, 0.0, 3.0, 3.0, 3.0]]


def test_a_row_is_repeated_and_joined_without_its_room() -> None:
    def begun(rows: int, fed: int) -> DynamicCache:
        row, made = (with_room(DynamicCache(config=tiny_llama().config)) for _ in range(2))
        for layer in range(len(row.layers)):
            row.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), layer)
        repeat(row, rows, made)
        for layer in range(len(row.layers)):
            made.update(torch.full((rows, 2, fed, 4), float(fed)), torch.ones(rows, 2, fed, 4), layer)
        assert row.get_seq_length() == 3
        return made

    both = join([begun(2, 2), begun(1, 1)], 5)
    keys = both.layers[-1].keys
    assert keys is not None
    assert keys[:, 0, :, 0].tolist() == [[1.0, 1.0, 1.0, 2.0, 2.0]] * 2 + [[0.0, 1.0, 1.0, 1.0, 1.0]]
