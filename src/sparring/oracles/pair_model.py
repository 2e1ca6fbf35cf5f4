"""Models that read a prompt and two answers together and say which is better, run in this process.

Three formats, each asked in both orders and averaged:

    letters     a causal language model shows its preference in the logits of "A" and "B" after a chat turn:
                RLHFlow's pair-preference models (wording: theirs), or any instruction-tuned model (wording: `instruct`)
    classifier  a Hugging Face sequence classifier of text pairs, with one output (a log-odds) or two (A, B)
    pairrm      PairRM: DeBERTa with a head over three marker tokens; loaded by `pairrm.py`

    P(A) = sigmoid( (logit_A - logit_B) / temperature )

Unlike a reward, such a model can prefer in circles. Leaves out: models behind an endpoint (`llm_judge.py`), training
(`sparring oracle train`).

    PairModel("RLHFlow/pair-preference-model-LLaMA3-8B").judge([Comparison(prompt, a, b)])

Shape suffixes: N comparisons, B rows of a batch, T tokens, V vocabulary, L outputs of a classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from scipy.special import expit
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from sparring.models.identity import hash_policy
from sparring.models.padding import left_padded
from sparring.models.template import FIXED_DAY, Template
from sparring.models.weights import (
    check_present,
    load_model,
    load_reported,
    load_tokenizer,
    placed,
    refuse_code,
    resolve_model,
)
from sparring.oracles.judge_prompts import STYLES
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import both_orders
from sparring.oracles.pairrm import PairRM
from sparring.runtime.gpus import device_type
from sparring.runtime.precision import computed

Format = Literal["rlhflow", "instruct", "classifier", "pairrm"]
RLHFLOW = "[CONTEXT] {context} [RESPONSE A] {a} [RESPONSE B] {b} \n"
RLHFLOW_CONTEXT = "\n\n\n<turn> user\n {prompt}\n\n\n"
"""one user turn in the plain template that RLHFlow's models were trained with"""


class PairModel:
    """`format`: rlhflow, instruct, classifier or pairrm; see the module."""

    title = "pair_model"
    about = "Models that read a prompt and two answers together and say which is better, run in this process."

    def __init__(
        self,
        model: Annotated[str, Field(description="a folder or hub name")],
        format: Annotated[Format, Field(description="how the two answers are put to the model")] = "rlhflow",
        temperature: Annotated[float, Field(gt=0, description="divides the log-odds")] = 1.0,
        batch_size: Annotated[int, Field(ge=1, description="comparisons run together: memory and speed")] = 8,
        max_tokens: Annotated[int, Field(ge=16, description="longer comparisons are shortened, answers alike")] = 4096,
        precision: Annotated[Literal["bfloat16", "float32"], Field(description="of the weights")] = "bfloat16",
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"oracle.temperature = {temperature}: give a positive number.")
        if batch_size < 1 or max_tokens < 16:
            raise ValueError(f"oracle: batch_size = {batch_size}, max_tokens = {max_tokens}: at least 1 and 16.")
        folder = resolve_model(model)
        self.format, self.temperature = format, temperature
        self.batch_size, self.max_tokens, self.precision = batch_size, max_tokens, precision
        dtype = computed(precision, device_type())
        refuse_code(folder, False)
        # Each has `log_odds` of a batch, and counts the questions cut to max_tokens in `shortened`.
        scorers = {"classifier": Classifier, "pairrm": PairRM}
        self._scorer = scorers[format](folder, dtype) if format in scorers else Letters(folder, dtype, format)
        self._hash = hash_policy(folder)
        self._odds: dict[Comparison, float] = {}

    @property
    def identity(self) -> str:
        """The weights with their tokenizer and template, the format, its wording and numbers that change a verdict."""
        options = f"temperature={self.temperature:g};max_tokens={self.max_tokens};{self.precision}"
        if isinstance(self._scorer, Letters) and self._scorer.template.asks_day:
            options += f";day={FIXED_DAY}"
        wording = f"={STYLES['pairwise'].digest}" if self.format == "instruct" else ""
        return f"pair_model({self._hash[:16]};{self.format}{wording};{options})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b), both orders averaged."""
        return both_orders(self.first_shown, comparisons)

    def first_shown(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) with a first, float64; each order of a comparison is run once."""
        new = [c for c in dict.fromkeys(comparisons) if c not in self._odds]
        new.sort(key=lambda c: sum(map(len, c)))
        for begin in range(0, len(new), self.batch_size):
            part = new[begin : begin + self.batch_size]
            self._odds |= zip(part, self._scorer.log_odds(part, self.max_tokens), strict=True)
        return expit(np.array([self._odds[c] for c in comparisons], dtype=np.float64) / self.temperature)

    def counts(self) -> dict[str, object]:
        """How many questions were cut."""
        return {"questions cut to max_tokens": self._scorer.shortened}


class Letters:
    """A causal language model whose next token is A or B."""

    def __init__(self, folder: Any, dtype: torch.dtype, format: str) -> None:
        self.tokenizer: Any = load_tokenizer(folder)
        if self.tokenizer.chat_template is None:
            raise ValueError(f"oracle.model: {str(folder)!r} has no chat template, which format: {format} needs.")
        self.template = Template(self.tokenizer, day=FIXED_DAY)
        self.format, self.shortened = format, 0
        letters = [self.tokenizer.encode(letter, add_special_tokens=False) for letter in "AB"]
        if any(len(ids) != 1 for ids in letters):
            raise ValueError(f"oracle.model: its tokenizer does not hold A and B as single tokens ({letters}).")
        self.letters = [ids[0] for ids in letters]
        self.model = placed(load_model(folder, dtype))

    @torch.inference_mode()
    def log_odds(self, comparisons: Sequence[Comparison], max_tokens: int) -> list[float]:
        """Logit of A minus logit of B after the question."""
        return self.tensor(comparisons, max_tokens).tolist()

    def tensor(self, comparisons: Sequence[Comparison], max_tokens: int) -> Float[Tensor, " B"]:
        """B: logit of A minus logit of B, with its gradient."""
        rows = [self.ids(comparison, max_tokens) for comparison in comparisons]
        pad = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id or 0
        inputs = left_padded(rows, pad, self.model.device)
        logits_BV = self.model(**inputs, logits_to_keep=1).logits[:, -1].float()
        a, b = self.letters
        return logits_BV[:, a] - logits_BV[:, b]

    def ids(self, comparison: Comparison, max_tokens: int) -> list[int]:
        """The question's tokens; the longest text loses a tenth, from its end, until it fits."""
        cut = comparison
        while len(ids := self._ids(cut)) > max_tokens:
            longest = max(cut, key=len)
            keep = int(len(longest) * 0.9)
            if keep < 8:
                raise ValueError(f"oracle.max_tokens = {max_tokens} holds not even the question's frame: raise it.")
            cut = Comparison(*(text[:keep] if text is longest else text for text in cut))
        self.shortened += cut is not comparison
        return ids

    def _ids(self, comparison: Comparison) -> list[int]:
        rendered = self.template.text(self._messages(comparison), generate=True)
        if self.format == "rlhflow" and self.tokenizer.bos_token:
            rendered = rendered.replace(str(self.tokenizer.bos_token), "")  # as their own code does
        return self.tokenizer.encode(rendered, add_special_tokens=False)

    def _messages(self, comparison: Comparison) -> list[dict[str, str]]:
        prompt, a, b = comparison
        if self.format == "instruct":
            return STYLES["pairwise"].messages(prompt=prompt, a=a, b=b)
        context = RLHFLOW_CONTEXT.format(prompt=prompt)
        return [{"role": "user", "content": RLHFLOW.format(context=context, a=a, b=b)}]


class Classifier:
    """A sequence classifier of two texts: prompt with the first answer, and the second answer."""

    def __init__(self, folder: Any, dtype: torch.dtype) -> None:
        labels = AutoConfig.from_pretrained(folder).num_labels
        if labels not in (1, 2):
            raise ValueError(f"oracle.model: {str(folder)!r} has {labels} outputs; a classifier of pairs has 1 or 2.")
        self.shortened = 0
        self.tokenizer: Any = load_tokenizer(folder)
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        where, kind = f"oracle.model: {str(folder)!r}", "a sequence classifier"
        model, info = load_reported(AutoModelForSequenceClassification, folder, where, kind, dtype=dtype)
        check_present(info, where, kind)
        model.config.pad_token_id = self.tokenizer.pad_token_id
        self.model = placed(model.eval())

    @torch.inference_mode()
    def log_odds(self, comparisons: Sequence[Comparison], max_tokens: int) -> list[float]:
        """The one output, or first minus second."""
        inputs = pair_inputs(self.tokenizer, comparisons, max_tokens).to(self.model.device)
        self.shortened += int((inputs["attention_mask"].sum(1) >= max_tokens).sum())
        return pair_log_odds(self.model(**inputs).logits.float()).tolist()


def pair_inputs(tokenizer: Any, comparisons: Sequence[Comparison], max_tokens: int) -> Any:
    """A padded batch of (prompt and first answer, second answer); the longer text is cut first."""
    return tokenizer(
        [f"{c.prompt}\n\n{c.a}" for c in comparisons],
        [c.b for c in comparisons],
        return_tensors="pt",
        padding=True,
        truncation="longest_first",
        max_length=max_tokens,
    )


def pair_log_odds(logits_BL: Float[Tensor, "B L"]) -> Float[Tensor, " B"]:
    """B: log-odds that the first answer is better, from one output or two."""
    return logits_BL[:, 0] if logits_BL.shape[1] == 1 else logits_BL[:, 0] - logits_BL[:, 1]
