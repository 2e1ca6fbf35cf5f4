"""A language model as the judge, behind any OpenAI-compatible endpoint.

    P(a beats b) = ( P(A | a shown first) + 1 - P(A | b shown first) ) / 2      pairwise, mt_bench: both orders, always
    P(a beats b) = sigmoid( (rating(a) - rating(b)) / scale )                   scored

The verdict is soft where the endpoint gives log-probabilities of the verdict token, else 1, 1/2 or 0. A reply that
cannot be read makes the comparison fail: counted, left out, never a tie. Answers can talk to their judge; the prompts
say that they must not be obeyed, and `sparring oracle audit` measures what that is worth. Leaves out: waiting, paying
and keeping (`endpoint.py`), the wording and the reading (`judge_prompts.py`).

    oracle: {name: llm_judge, model: gpt-4.1-mini, max_cost: 5, price_in: 0.4, price_out: 1.6}
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from scipy.special import expit

from sparring.oracles.endpoint import Endpoint, Estimate, Request, Settings
from sparring.oracles.guard import OracleError
from sparring.oracles.judge_prompts import STYLES, read_verdict
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import both_orders
from sparring.weights import cache_folder

TOP_LOGPROBS = 5


class LLMJudge:
    """Asks `model` at `base_url`; the key comes from the environment variable named by `key_env`."""

    def __init__(
        self,
        model: Annotated[str, Field(description="the name that the endpoint knows it by")],
        base_url: Annotated[
            str | None, Field(description="ends in /v1; null: the provider that the client library assumes")
        ] = None,
        key_env: Annotated[
            str | None, Field(description="the environment variable that holds the key; null where none is needed")
        ] = "OPENAI_API_KEY",
        style: Annotated[
            Literal["pairwise", "mt_bench", "scored"],
            Field(description="a letter, a verdict with reasons, or two scores"),
        ] = "pairwise",
        temperature: Annotated[float, Field(ge=0, description="of the judge; 0 is greedy")] = 0.0,
        max_tokens: Annotated[
            Annotated[int, Field(ge=1)] | None, Field(description="of a verdict; null: what the style needs")
        ] = None,
        logprobs: Annotated[
            bool, Field(description="read the probability of the verdict token where the endpoint gives it")
        ] = True,
        scale: Annotated[
            float, Field(gt=0, description="score gap that counts as a 73 % preference (style scored)")
        ] = 1.0,
        concurrency: Annotated[int, Field(ge=1, description="requests in flight")] = 8,
        timeout: Annotated[float, Field(gt=0, description="seconds for one request")] = 60.0,
        attempts: Annotated[int, Field(ge=1, description="tries before a comparison counts as failed")] = 5,
        max_cost: Annotated[
            Annotated[float, Field(ge=0)] | None,
            Field(description="stop before more than this is spent, in the prices' currency; null: no limit"),
        ] = None,
        price_in: Annotated[Annotated[float, Field(ge=0)] | None, Field(description="per million tokens read")] = None,
        price_out: Annotated[
            Annotated[float, Field(ge=0)] | None, Field(description="per million tokens written")
        ] = None,
        replies: Annotated[
            str | None,
            Field(description="file that keeps every reply, so that none is paid for twice; null: in the cache"),
        ] = None,
        extra: Annotated[
            dict[str, Any] | None, Field(description="further fields of every request, as the endpoint names them")
        ] = None,
    ) -> None:
        if not (temperature >= 0 and scale > 0):
            raise ValueError(f"oracle: temperature = {temperature}, scale = {scale}: give at least 0, and above 0.")
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"oracle.max_tokens = {max_tokens}: give at least 1.")
        self.style = STYLES[style]
        self.scale = scale
        self.options = {"temperature": temperature, "max_tokens": max_tokens or self.style.max_tokens}
        if logprobs:
            self.options |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        if extra:
            self.options["extra_body"] = extra
        settings = Settings(model, base_url, key_env, concurrency, timeout, attempts, max_cost, price_in, price_out)
        self.endpoint = Endpoint(settings, self._replies(settings, replies))
        self.verdicts: dict[str, str] = {}
        """by request: soft, hard, unreadable or unanswered"""

    def _replies(self, settings: Settings, given: str | None) -> Path:
        if given is not None:
            return Path(given).expanduser()
        digest = hashlib.sha256(f"{settings.base_url} {settings.model}".encode()).hexdigest()[:12]
        return cache_folder() / "replies" / f"{digest}.jsonl"

    @property
    def identity(self) -> str:
        """Endpoint, model name, wording and options; a model that changes behind its name is not seen."""
        options = ",".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        scale = f";scale={self.scale:g}" if self.style.name == "scored" else ""
        who = f"{self.endpoint.settings.model}@{self.endpoint.where}"
        return f"llm_judge({who};{self.style.name}={self.style.digest};{options}{scale})"

    def judge(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(a beats b) of each comparison; NaN where a verdict failed."""
        if self.style.name == "scored":
            ratings = self._values([request for c in comparisons for request in self._ratings(c)])
            return expit((ratings[::2] - ratings[1::2]) / self.scale)
        return both_orders(self.first_shown, comparisons)

    def first_shown(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(a beats b) with a shown first."""
        if self.style.name == "scored":
            return self.judge(comparisons)
        return self._values([self._request(prompt=c.prompt, a=c.a, b=c.b) for c in comparisons])

    def estimate(self, comparisons: Sequence[Comparison]) -> Estimate:
        """What judging these would take, before it starts."""
        return self.endpoint.estimate([request for c in comparisons for request in self._requests(c)])

    def facts(self) -> dict[str, object]:
        """Counts of this process, every verdict once however often it was read; what the kept replies cost in all."""
        kinds = Counter(f"{kind} verdicts" for kind in self.verdicts.values())
        counts: dict[str, object] = {**self.endpoint.counts, **kinds}
        if self.endpoint.settings.price_in is not None:
            counts["cost of all kept replies"] = round(self.endpoint.spent, 6)
        return {**counts, "served by": ", ".join(sorted(self.endpoint.models))}

    # ---- one request, one value ---------------------------------------------------------------

    def _requests(self, comparison: Comparison) -> list[Request]:
        if self.style.name == "scored":
            return self._ratings(comparison)
        prompt, a, b = comparison
        return [self._request(prompt=prompt, a=a, b=b), self._request(prompt=prompt, a=b, b=a)]

    def _ratings(self, comparison: Comparison) -> list[Request]:
        return [self._request(prompt=comparison.prompt, a=text) for text in (comparison.a, comparison.b)]

    def _request(self, **texts: str) -> Request:
        return {"messages": self.style.messages(**texts), **self.options}

    def _values(self, requests: Sequence[Request]) -> np.ndarray:
        replies = self.endpoint.ask(requests)
        read = [None if reply is None else read_verdict(reply, self.style) for reply in replies]
        for request, reply, verdict in zip(requests, replies, read, strict=True):
            self.verdicts[self.endpoint.key(request)] = (
                "unanswered" if reply is None else "unreadable" if verdict is None else "soft" if verdict[1] else "hard"
            )
        if set(self.verdicts.values()) == {"unanswered"}:
            raise OracleError(f"{self.endpoint.where} answered nothing so far (last: {self.endpoint.last_error}).")
        return np.array([np.nan if verdict is None else verdict[0] for verdict in read], dtype=np.float64)
