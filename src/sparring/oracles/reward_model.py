"""A reward model as an oracle: any Hugging Face sequence classifier with one output, Bradley-Terry.

    P(a beats b) = sigmoid( (r(x, a) - r(x, b)) / temperature )

A reward is transitive by construction: no game-theoretic method can gain from its cycles, it has none.
Leaves out: generative judges and classifiers of pairs.

    RewardModel("my-org/reward-model").judge([Comparison(prompt, a, b)])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from transformers import AutoModelForSequenceClassification

from sparring.oracles.oracle import Comparison
from sparring.weights import hash_weights, load_tokenizer, resolve_model


class RewardModel:
    """Scores each distinct (prompt, answer) once; rendered with the model's own chat template."""

    def __init__(self, model: str, temperature: float = 1.0, batch_size: int = 16, max_tokens: int = 2048) -> None:
        if temperature <= 0:
            raise ValueError(f"oracle.temperature = {temperature}: give a positive number.")
        self.folder = resolve_model(model)
        self.temperature, self.batch_size, self.max_tokens = temperature, batch_size, max_tokens
        self.tokenizer = load_tokenizer(self.folder)
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.model = AutoModelForSequenceClassification.from_pretrained(self.folder, use_safetensors=True).eval()
        if torch.cuda.is_available():
            self.model = self.model.to("cuda")
        if self.model.config.num_labels != 1:
            raise ValueError(
                f"oracle.model: {model!r} has {self.model.config.num_labels} outputs; a reward model has one "
                "(num_labels = 1)."
            )
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self._hash = hash_weights(self.folder)
        self._scores: dict[tuple[str, str], float] = {}

    @property
    def identity(self) -> str:
        """The weights and the temperature."""
        return f"reward_model({self._hash[:16]};temperature={self.temperature:g};max_tokens={self.max_tokens})"

    def judge(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(a beats b) of each comparison, float64."""
        texts = dict.fromkeys((c.prompt, text) for c in comparisons for text in (c.a, c.b))
        new = sorted(
            (pair for pair in texts if pair not in self._scores),
            key=lambda p: len(p[0]) + len(p[1]),
        )
        for begin in range(0, len(new), self.batch_size):
            part = new[begin : begin + self.batch_size]
            self._scores |= zip(part, self.rewards(part), strict=True)
        gap = [self._scores[c.prompt, c.a] - self._scores[c.prompt, c.b] for c in comparisons]
        return expit(np.array(gap, dtype=np.float64) / self.temperature)

    @torch.inference_mode()
    def rewards(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The reward of each (prompt, answer)."""
        inputs = reward_inputs(self.tokenizer, pairs, self.max_tokens).to(self.model.device)
        return self.model(**inputs).logits[:, 0].float().tolist()


def reward_inputs(tokenizer: Any, pairs: Sequence[tuple[str, str]], max_tokens: int) -> Any:
    """A padded batch of (prompt, answer), rendered with the model's own chat template where it has one."""
    return tokenizer(
        [_rendered(tokenizer, prompt, answer) for prompt, answer in pairs],
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=max_tokens,
        add_special_tokens=tokenizer.chat_template is None,
    )


def _rendered(tokenizer: Any, prompt: str, answer: str) -> str:
    if tokenizer.chat_template is None:
        return f"{prompt}\n\n{answer}"
    talk = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(talk, tokenize=False))
