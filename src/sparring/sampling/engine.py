"""The input and output of every sampling engine: prompts with seeds, and responses as tokens.

An engine in this process samples batch after batch; a served one gets all requests at once and yields each
response when it is finished, whatever the order.

    TransformersEngine.sample([Request(prompt_ids, seed=1)])  ->  [Response(token_ids, "stop")]
    VllmEngine.stream([Request(prompt_ids, seed=1)])          ->  (0, Response(token_ids, "stop")), ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

FinishReason = Literal["stop", "length"]


class Request(NamedTuple):
    """A request for one response: its prompt as tokens, and the seed of its noise."""

    prompt_ids: Sequence[int]
    seed: int


class Response(NamedTuple):
    """A response as tokens; it holds its end token exactly when `finish_reason` is "stop"."""

    token_ids: list[int]
    finish_reason: FinishReason


def as_response(token_ids: Any, finish_reason: Any, vocabulary: int = 2**31) -> Response:
    """A response that another process or a file gave; `vocabulary` is how many tokens the model has.

    Raises:
        ValueError: it can be none.
    """
    ids = token_ids if isinstance(token_ids, list) else [None]
    if not all(type(token) is int and 0 <= token < vocabulary for token in ids):
        raise ValueError(f"a response must be a list of tokens below {vocabulary}")
    if finish_reason not in get_args(FinishReason):
        raise ValueError(f"a response ends by {' or '.join(get_args(FinishReason))}, and not by {finish_reason!r}")
    return Response(token_ids, finish_reason)
