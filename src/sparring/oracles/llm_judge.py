"""A language model as the judge, behind any OpenAI-compatible endpoint.

    P(a beats b) = ( P(A | a shown first) + 1 - P(A | b shown first) ) / 2      pairwise, mt_bench: both orders, always
    P(a beats b) = sigmoid( (rating(a) - rating(b)) / scale )                   scored

The verdict is soft where the endpoint gives log-probabilities of the verdict token, else 1, 1/2 or 0. A reply that
cannot be read makes the comparison fail: counted, left out, never a tie. An answer may address its judge; the prompts
say that answers must not be obeyed, and `sparring oracle audit` measures the effect. Leaves out: waiting and paying
(`endpoint.py`), models in this process (`local_judge.py`), the wording and the reading (`judge_prompts.py`).

    oracle: {name: llm_judge, model: gpt-4.1-mini, max_cost: 5, price_in: 0.4, price_out: 1.6}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.special import expit

from sparring.endpoints.endpoint import MODERATION, Endpoint
from sparring.endpoints.replies import TOP_LOGPROBS, Asker, Estimate, Request, most_out, replies_file
from sparring.oracles.judge_prompts import STYLES, Style, read_verdict
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import both_orders
from sparring.recipe.sections import EndpointConfig
from sparring.runtime.errors import OracleError

ROOM_FOR_THOUGHTS = 8192
"""tokens that a reasoning model may think before its verdict, where max_tokens does not say"""

REFUSALS = ("BadRequestError", "UnprocessableEntityError")
"""the client's errors for a request that fails in the same way whenever it is sent"""

StyleName = Annotated[
    Literal["pairwise", "mt_bench", "scored"], Field(description="a letter, a verdict with reasons, or two scores")
]
Temperature = Annotated[float, Field(ge=0, description="of the judge; 0 is greedy")]
MaxTokens = Annotated[Annotated[int, Field(ge=1)] | None, Field(description="of a verdict; null: what the style needs")]
Logprobs = Annotated[bool, Field(description="read the probability of the verdict token where it is given")]
Scale = Annotated[float, Field(gt=0, description="score gap that counts as a 73 % preference (style scored)")]
RepliesFile = Annotated[
    str | None, Field(description="file that keeps every reply, so that none is made twice; null: in the cache")
]


class LanguageJudge:
    """A judge that is asked in words; its verdicts are read from its replies."""

    served_model: str | None = None

    def __init__(self, asker: Asker, who: str, style: Style, options: dict[str, Any], scale: float) -> None:
        self.asker, self.who, self.style, self.options, self.scale = asker, who, style, options, scale
        self.verdicts: dict[str, str] = {}
        """by request: soft, hard, unreadable or unanswered"""
        self.unfinished: set[str] = set()
        """requests whose replies cannot be read and were cut off"""

    @property
    def identity(self) -> str:
        """Who is asked, wording and options; a served model that changes behind its name is not seen."""
        options = ",".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        scale = f";scale={self.scale:g}" if self.style.name == "scored" else ""
        return f"{self.who};{self.style.name}={self.style.digest};{options}{scale})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison; NaN where a verdict failed."""
        if self.style.name == "scored":
            ratings = self._values([request for c in comparisons for request in self._ratings(c)])
            return expit((ratings[::2] - ratings[1::2]) / self.scale)
        return both_orders(self.first_shown, comparisons)

    def first_shown(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) with a shown first."""
        if self.style.name == "scored":
            return self.judge(comparisons)
        return self._values([self._request(prompt=c.prompt, a=c.a, b=c.b) for c in comparisons])

    def estimate(self, comparisons: Sequence[Comparison]) -> Estimate:
        """Upper bounds of what judging these takes."""
        return self.asker.estimate([request for c in comparisons for request in self._requests(c)])

    def counts(self) -> dict[str, object]:
        """Counts of this process, each verdict once however often it was read, and the cost of all stored replies."""
        kinds = Counter(f"{kind} verdicts" for kind in self.verdicts.values())
        counts: dict[str, object] = {**self.asker.counts, **kinds}
        if self.unfinished:
            counts["unreadable because cut off"] = len(self.unfinished)
        if self.asker.paid is not None:
            counts["cost of all kept replies"] = round(self.asker.paid, 6)
        return {**counts, "served by": ", ".join(sorted(self.asker.models))}

    def diagnosis(self) -> str:
        """What to do about the verdicts that failed, and damaged lines of the replies; empty where all is well."""
        kinds, lines = Counter(self.verdicts.values()), [self.asker.file.damage] * bool(self.asker.file.damage)
        if kinds["unanswered"]:
            lines.append(f"Last error: {self.asker.last_error}.{self.about_requests()}")
        if self.unfinished:
            cut = f"Replies cut off before a verdict: {len(self.unfinished)}."
            lines.append(f"{cut} Give more max_tokens (now {most_out(self.options)}).")
        if kinds["unreadable"] > len(self.unfinished):
            lines.append("Its reply must end with a verdict: take another wording, or a stronger model.")
        return " ".join(lines)

    def about_requests(self) -> str:
        """A space and what to do about requests that fail; empty where nothing is known."""
        return ""

    def _requests(self, comparison: Comparison) -> list[Request]:
        if self.style.name == "scored":
            return self._ratings(comparison)
        prompt, a, b = comparison
        return [self._request(prompt=prompt, a=a, b=b), self._request(prompt=prompt, a=b, b=a)]

    def _ratings(self, comparison: Comparison) -> list[Request]:
        return [self._request(prompt=comparison.prompt, a=text) for text in (comparison.a, comparison.b)]

    def _request(self, **texts: str) -> Request:
        return {"messages": self.style.messages(**texts), **self.options}

    def _values(self, requests: Sequence[Request]) -> Float[np.ndarray, " N"]:
        replies = self.asker.ask(requests)
        read = [None if reply is None else read_verdict(reply, self.style) for reply in replies]
        for request, reply, verdict in zip(requests, replies, read, strict=True):
            self.verdicts[self.asker.key(request)] = (
                "unanswered" if reply is None else "unreadable" if verdict is None else "soft" if verdict[1] else "hard"
            )
            if reply is not None and verdict is None and reply.cut:
                self.unfinished.add(self.asker.key(request))
        # Once it has answered, what is left at a later start may be the questions that it refuses.
        if set(self.verdicts.values()) == {"unanswered"} and not self.asker.models:
            last = self.asker.last_error
            raise OracleError(f"{self.asker.where} answered nothing so far (last: {last}).{self.about_requests()}")
        return np.array([np.nan if verdict is None else verdict[0] for verdict in read], dtype=np.float64)


class LLMJudgeConfig(EndpointConfig):
    """The fields of `llm_judge`: where the model is, how it is asked and how its replies are read."""

    style: StyleName = "pairwise"
    temperature: Temperature = 0.0
    max_tokens: MaxTokens = None
    logprobs: Logprobs = True
    reasoning: bool = False
    """a reasoning model: sends max_completion_tokens, no temperature and no logprobs"""
    scale: Scale = 1.0
    replies: RepliesFile = None
    extra: dict[str, Any] | None = None
    """further fields of every request, as the endpoint names them"""


class LLMJudge(LanguageJudge):
    """Asks `model` at `base_url`; the key comes from the environment variable named by `key_env`."""

    title = "llm_judge"
    about = "A language model as the judge, behind any OpenAI-compatible endpoint."

    def __init__(self, config: LLMJudgeConfig) -> None:
        style = STYLES[config.style]
        options = reply_options(style, config.temperature, config.max_tokens, config.logprobs)
        if config.reasoning:
            if config.temperature:
                raise ValueError(
                    f"oracle.temperature = {config.temperature} with reasoning: true, which sends none: remove one."
                )
            options = {"max_completion_tokens": config.max_tokens or style.max_tokens + ROOM_FOR_THOUGHTS}
        if config.extra:
            options = {**options, "extra_body": config.extra}
        replies = replies_file(config.replies, f"{config.base_url} {config.model}")
        self.endpoint = Endpoint(config, "oracle", replies, guarded=True)
        self.served_model = config.model
        who = f"llm_judge({config.model}@{self.endpoint.where}"
        super().__init__(self.endpoint, who, style, options, config.scale)

    def stop_asking(self) -> None:
        """From another thread: requests under way may finish, later ones raise an `OracleError`."""
        self.endpoint.stop()

    def about_requests(self) -> str:
        """A space and the remedy for the endpoint's last error."""
        error = self.endpoint.last_error
        if "logprob" in error.lower() and "logprobs" in self.options:
            return " It gives no log-probabilities: set logprobs: false; verdicts are then hard."
        if error.startswith("Filtered") or MODERATION.search(error):
            return " Its moderation refuses these questions: they are left out, or take another judge."
        if error.startswith(REFUSALS):
            return " It refuses the request as it is: correct the field that it names (reasoning: true, extra)."
        now = self.endpoint.config
        patience = f"lower concurrency (now {now.concurrency}) and more attempts (now {now.attempts})"
        return f" Run again; where it keeps failing, give {patience}."


def reply_options(style: Style, temperature: float, max_tokens: int | None, logprobs: bool) -> dict[str, Any]:
    """The fields of every request that shape its reply."""
    options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens or style.max_tokens}
    return {**options, "logprobs": True, "top_logprobs": TOP_LOGPROBS} if logprobs else options
