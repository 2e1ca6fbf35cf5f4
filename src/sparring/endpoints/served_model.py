"""Answers of a model that somebody serves under an OpenAI-compatible URL: text in, text out.

The server renders messages with its own template; its text becomes tokens with the policy's tokenizer. Its
log-probabilities stay unknown, so its answers are data to learn from (a teacher) or to be judged against (an opponent);
it can be no anchor, no part of a mixture and no seat of a game. Leaves out: waiting, retrying and paying
(`endpoints/endpoint.py`).

    ServedModel(config, "data.teacher", Path("replies.jsonl")).answers([[{"role": "user", "content": "Hi"}]], [1])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparring.endpoints.endpoint import Endpoint
from sparring.endpoints.replies import Reply
from sparring.models.chat import Chat
from sparring.models.tools import Message, as_requested
from sparring.recipe.sections import ServedConfig
from sparring.runtime.errors import EngineError, OracleError
from sparring.runtime.progress import Advance
from sparring.sampling.engine import Response

SLICE = 8
"""requests given to the endpoint together, times its concurrency: how often progress shows"""


class ServedModel:
    """Asks one model; replies are stored in the file `replies` and never asked for again."""

    def __init__(self, config: ServedConfig, field: str, replies: Path) -> None:
        self.config = config
        self.endpoint = Endpoint(config, field, replies)

    def answers(
        self, prompts: Sequence[Sequence[Message]], seeds: Sequence[int], advance: Advance | None = None
    ) -> list[Reply | None]:
        """One reply per prompt, in order; None where every attempt failed.

        Raises:
            EngineError: no further request can succeed.
        """
        requests = [self._request(messages, seed) for messages, seed in zip(prompts, seeds, strict=True)]
        size = SLICE * self.config.concurrency
        answers: list[Reply | None] = []
        for begin in range(0, len(requests), size):
            try:
                answers += self.endpoint.ask(requests[begin : begin + size])
            except OracleError as error:
                raise EngineError(str(error)) from error
            if advance is not None:
                advance(len(requests[begin : begin + size]))
        return answers

    def refused(self, messages: Sequence[Message], seed: int) -> bool:
        """Whether the server would not answer this prompt when it was asked; another attempt would end the same way."""
        return self.endpoint.refused(self._request(messages, seed))

    def _request(self, messages: Sequence[Message], seed: int) -> dict[str, object]:
        config = self.config
        sent, tools = as_requested(messages)
        if config.system is not None and sent[0]["role"] != "system":
            sent = [{"role": "system", "content": config.system}, *sent]
        plain = {"temperature": config.temperature, "top_p": config.top_p, "max_tokens": config.max_tokens}
        return {
            "messages": sent,
            **({} if tools is None else {"tools": tools}),
            **({"max_completion_tokens": config.max_tokens} if config.reasoning else plain),
            "seed": seed % 2**31,
            **({"extra_body": config.extra} if config.extra else {}),
        }


def as_response(reply: Reply, chat: Chat, prompt: Sequence[Message]) -> Response:
    """A reply to `prompt` as the policy's tokens; one that was cut off holds no end token."""
    ids = chat.response_ids(reply.text, prompt)
    return Response(ids[:-1], "length") if reply.cut else Response(ids, "stop")
