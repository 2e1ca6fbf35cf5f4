"""How far a batch of responses is while it is sampled: tokens so far, and their rate.

Counts the passes of the model that samples, from outside, so that the engine need not report: the first passes read the
prompts, in one part or several, and every later one feeds the tokens that the rows got last. A row that ends early
makes the rest quicker, so what is shown is the least that is done. Leaves out: an engine that does not call the model
by itself for every token; its batches show nothing until they are done.

    with Watch(rows=64, most=512, advance=advance).over(model): engine.sample(requests)

Shape suffixes: B rows, Q tokens of a row that are fed at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from sparring.models.architecture import STATE
from sparring.runtime.progress import Advance


class Watch:
    """One batch of `rows` responses of at most `most` tokens; `advance` is told of responses' worth of work."""

    def __init__(self, rows: int, most: int, advance: Advance) -> None:
        self.rows, self.most, self.advance = rows, most, advance
        self.shown = 0
        """responses that `advance` was told of: whole ones' worth, though none may have ended"""
        self._passes = self._tokens = 0
        self._start = 0.0

    @contextlib.contextmanager
    def over(self, model: nn.Module) -> Iterator[None]:
        """While this is open, each pass of `model` is counted."""
        handle = model.register_forward_pre_hook(self._count, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _count(self, model: nn.Module, args: Any, fields: dict[str, Any]) -> None:
        ids = fields["input_ids"] if "input_ids" in fields else args[0]
        if self._passes == 0:
            self._start = time.monotonic()
        elif _reads_prompts(ids, fields):
            return
        else:
            self._tokens += len(ids)
        self._report(self._passes)
        self._passes += 1

    def _report(self, step: int) -> None:
        """Tell of a step: each row that goes on has this many tokens."""
        done = self.rows * min(step, self.most) // self.most
        seconds = time.monotonic() - self._start
        rate = f", {self._tokens / seconds:,.0f} tokens/s" if self._tokens and seconds > 0 else ""
        self.advance(done - self.shown, f"token {step + 1} of at most {self.most}{rate}")
        self.shown = done


def _reads_prompts(ids: Int[Tensor, "B Q"], fields: Mapping[str, Any]) -> bool:
    """Whether a pass after the first reads another part of the prompts: then its rows have no tokens before these."""
    # A model without attention gets no longer mask, and reads its prompts in one pass.
    return STATE not in fields and "attention_mask" in fields and fields["attention_mask"].shape[1] == ids.shape[1]
