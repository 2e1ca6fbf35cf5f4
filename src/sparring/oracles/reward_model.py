"""A reward model as an oracle: any Hugging Face sequence classifier with one output, Bradley-Terry.

    P(a beats b) = sigmoid( (r(x, a) - r(x, b)) / temperature )

A reward is transitive by construction: it has no cycles for a game-theoretic method to gain from. Conversations
longer than `max_tokens` are cut at their end, and counted. Leaves out: generative judges and classifiers of pairs.

    RewardModel("my-org/reward-model").judge([Comparison(prompt, a, b)])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from jinja2 import TemplateError
from pydantic import Field
from scipy.special import expit
from transformers import AutoModelForSequenceClassification

from sparring.models.identity import hash_policy
from sparring.models.messages import turns
from sparring.models.padding import right_padded
from sparring.models.template import FIXED_DAY, Template
from sparring.models.weights import check_present, load_reported, load_tokenizer, placed, resolve_model
from sparring.oracles.oracle import Comparison
from sparring.runtime.gpus import device_type
from sparring.runtime.precision import computed

VERSION = 2
"""of the rendering: 2 renders a prompt's turns as turns, and special tokens in its text as text"""


class RewardModel:
    """Scores each distinct (prompt, answer) once; rendered with the model's own chat template."""

    title = "reward_model"
    about = "A reward model as an oracle: any Hugging Face sequence classifier with one output, Bradley-Terry."

    def __init__(
        self,
        model: Annotated[str, Field(description="a sequence classifier with one output: a folder or a hub name")],
        temperature: Annotated[float, Field(gt=0, description="reward gap that counts as a 73 % preference")] = 1.0,
        batch_size: Annotated[int, Field(ge=1, description="answers run together: memory and speed")] = 16,
        max_tokens: Annotated[
            int, Field(ge=1, description="conversations are cut here; how many answers were is shown")
        ] = 2048,
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"oracle.temperature = {temperature}: give a positive number.")
        self.folder = resolve_model(model)
        self.temperature, self.batch_size, self.max_tokens = temperature, batch_size, max_tokens
        self.tokenizer = load_tokenizer(self.folder)
        self.template = Template(self.tokenizer, day=FIXED_DAY)
        self.model = self._load(model)
        if self.tokenizer.pad_token_id is not None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self._hash = hash_policy(self.folder)
        self._scores: dict[tuple[str, str], float] = {}

    def _load(self, name: str) -> Any:
        where = f"oracle.model: {name!r}"
        model, info = load_reported(AutoModelForSequenceClassification, self.folder, where, "a sequence classifier")
        if model.config.num_labels != 1:
            raise ValueError(
                f"oracle.model: {name!r} has {model.config.num_labels} outputs; a reward model has one "
                "(num_labels = 1)."
            )
        check_present(info, where, "a sequence classifier")
        if model.dtype != torch.float32 and computed("bfloat16", device_type()) == torch.float32:
            model.float()  # a checkpoint is loaded as it is stored
        return placed(model.eval())

    @property
    def identity(self) -> str:
        """The weights with their tokenizer and template, the temperature, and how conversations are rendered."""
        day = f";day={FIXED_DAY}" if self.template.asks_day else ""
        options = f"temperature={self.temperature:g};max_tokens={self.max_tokens}{day}"
        return f"reward_model-v{VERSION}({self._hash[:16]};{options})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison, float64."""
        texts = dict.fromkeys((c.prompt, text) for c in comparisons for text in (c.a, c.b))
        new = sorted((pair for pair in texts if pair not in self._scores), key=lambda pair: sum(map(len, pair)))
        for begin in range(0, len(new), self.batch_size):
            part = new[begin : begin + self.batch_size]
            self._scores |= zip(part, self.rewards(part), strict=True)
        gap = [self._scores[c.prompt, c.a] - self._scores[c.prompt, c.b] for c in comparisons]
        return expit(np.array(gap, dtype=np.float64) / self.temperature)

    def cut(self, pairs: Sequence[tuple[str, str]]) -> int:
        """How many (prompt, answer) are longer than `max_tokens`."""
        return sum(len(conversation_ids(self.template, *pair)) > self.max_tokens for pair in pairs)

    def rewards(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The reward of each (prompt, answer), run together."""
        rows = [conversation_ids(self.template, *pair)[: self.max_tokens] for pair in pairs]
        # Padding with a token that a text may end with would have the reward read before it.
        if self.model.config.pad_token_id is None:
            return [self._forward([row])[0] for row in rows]
        return self._forward(rows)

    @torch.inference_mode()
    def _forward(self, rows: Sequence[list[int]]) -> list[float]:
        inputs = right_padded(rows, self.model.config.pad_token_id, self.model.device)
        return self.model(**inputs).logits[:, 0].float().tolist()


def conversation_ids(template: Template, prompt: str, answer: str) -> list[int]:
    """A whole conversation as tokens, in the model's own template; without one, prompt and answer as text."""
    if template.tokenizer.chat_template is None:
        return list(template.tokenizer(f"{prompt}\n\n{answer}")["input_ids"])
    talk = [*turns(prompt), {"role": "assistant", "content": answer}]
    try:
        return template.ids(talk, generate=False)
    except TemplateError as error:
        raise ValueError(f"oracle.model: its chat template refuses the conversation: {error}") from error
