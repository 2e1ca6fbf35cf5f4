"""What every sampling engine looks like: prompts and seeds in, responses as tokens out.

An engine in this process samples batch after batch; a served one gets all requests at once and yields each
response when it is finished, whatever the order.

    engine.sample([Request(prompt_ids, seed=1)])  ->  [Response(token_ids, "stop")]
    served.stream([Request(prompt_ids, seed=1)])  ->  (0, Response(token_ids, "stop")), ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

FinishReason = Literal["stop", "length"]


class Request(NamedTuple):
    """One response wanted: its prompt as tokens, and the seed of its noise."""

    prompt_ids: Sequence[int]
    seed: int


class Response(NamedTuple):
    """A response as tokens; it holds its end token exactly when `finish_reason` is "stop"."""

    token_ids: list[int]
    finish_reason: FinishReason


class Engine(Protocol):
    """Something that draws responses from one policy (or one mixture)."""

    def sample(self, requests: Sequence[Request], advance: Callable[..., None] | None = None) -> list[Response]:
        """One response per request, in order."""
        ...


class StreamingEngine(Protocol):
    """Something outside this process that draws responses."""

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """(place in `requests`, response) for each request once, as they are finished."""
        ...
