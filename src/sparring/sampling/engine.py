"""The input and output of every sampling engine: prompts with seeds, and responses as tokens.

An engine in this process samples batch after batch; a served one gets all requests at once and yields each
response when it is finished, whatever the order.

    TransformersEngine.sample([Request(prompt_ids, seed=1)])  ->  [Response(token_ids, "stop")]
    VllmEngine.stream([Request(prompt_ids, seed=1)])          ->  (0, Response(token_ids, "stop")), ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length"]


class Request(NamedTuple):
    """A request for one response: its prompt as tokens, and the seed of its noise."""

    prompt_ids: Sequence[int]
    seed: int


class Response(NamedTuple):
    """A response as tokens; it holds its end token exactly when `finish_reason` is "stop"."""

    token_ids: list[int]
    finish_reason: FinishReason
