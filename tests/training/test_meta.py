"""The whole step of a fit on torch's `meta` device, where tensors have no values: what asks for one is seen.

On a GPU each such question waits for all work that was handed out. A step asks once for its numbers at its end, and a
micro-batch never. `_Answering` says where it was asked and answers 1, so that the step goes on.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import tiny_llama
from fit_fakes import ROLLOUTS, SPAC_PAIRS, exact
from sparring.algorithms.algorithm import Algorithm, DataFacts
from sparring.algorithms.dpo import DPO
from sparring.algorithms.inpo import INPO
from sparring.algorithms.spac import SPAC
from sparring.algorithms.sppo import SPPO
from sparring.training.batches import TrainingExample
from sparring.training.fit import _step, micro_batches
from sparring.training.metrics import MetricSums
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import PolicyScorer

ASKS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}


class _Answering(TorchDispatchMode):
    """Answers 1 to whoever asks for a value, and remembers the function of ours that did."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ASKS and args[0].is_meta:
            frames = (frame for frame in traceback.extract_stack() if "/sparring/" in frame.filename)
            ours = [frame for frame in frames if not frame.name.startswith("<")]
            self.asked[f"{Path(ours[-1].filename).name} {ours[-1].name}"] += 1
            return 1
        return func(*args, **(kwargs or {}))


def examples_for(algorithm: Algorithm) -> list[TrainingExample]:
    names = {"reference", "iterate", *algorithm.steps(0, DataFacts(400))[0].anchors}
    pairs = SPAC_PAIRS if isinstance(algorithm, SPAC) else SPAC_PAIRS[:1]
    anchors = dict.fromkeys(names, (-3.0, -4.0, -5.0))
    return [
        TrainingExample(str(i), rollout, ("own",) * 3, (0.7, 0.5, 0.3), anchors, pairs)
        for i, rollout in enumerate(ROLLOUTS)
    ]


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch has no autocast for `meta`: the step is one in float32."""
    monkeypatch.setattr(torch, "autocast", lambda device, *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("algorithm", [DPO(), INPO(), SPPO(), SPAC()], ids=lambda one: type(one).__name__)
def test_a_step_asks_for_its_numbers_at_its_end_alone(algorithm: Algorithm, layout: Any) -> None:
    config = exact(layout=layout, micro_batch_tokens=24)
    scorer = PolicyScorer(tiny_llama().to("meta"), layout).train()
    optimizer = torch.optim.AdamW(scorer.parameters(), fused=False, foreach=False)  # meta has no other
    objective = algorithm.steps(0, DataFacts(400))[0].objective
    examples = examples_for(algorithm)
    with _Answering() as mode:
        row = _step(scorer, optimizer, examples, objective, config)
    passes = len(micro_batches(examples, config))
    assert passes > 2
    # In the padded layout transformers looks once a pass whether there is any padding.
    assert mode.asked.pop("scorer.py _hidden", 0) == (passes if layout == "padded" else 0)
    numbers = mode.asked.pop("metrics.py totals", 0)
    # A count and, where it is not 0, a sum of every metric, whatever the number of micro-batches.
    assert 0 < numbers <= 3 * len(row)
    assert mode.asked == {"fit.py _step": 2}  # the loss and the gradients' norm


def test_anchors_are_asked_for_once_a_pack() -> None:
    scorer = PolicyScorer(tiny_llama().to("meta")).eval()
    with _Answering() as mode, pytest.raises(NotImplementedError, match="meta"):  # its values are what is wanted
        rollout_logps(scorer, ROLLOUTS, budget=40, precision="float32")
    assert mode.asked == {}


def test_what_asks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that asks in every micro-batch is one of those that this file is to find."""
    true = MetricSums.add

    def asking(self: MetricSums, values: Any) -> None:
        true(self, values)
        float(next(iter(self.sums.values()))[0])

    monkeypatch.setattr(MetricSums, "add", asking)
    config = exact(micro_batch_tokens=24)
    scorer = PolicyScorer(tiny_llama().to("meta")).train()
    optimizer = torch.optim.AdamW(scorer.parameters(), fused=False, foreach=False)  # meta has no other
    with _Answering() as mode:
        _step(scorer, optimizer, examples_for(DPO()), DPO().steps(0, DataFacts(400))[0].objective, config)
    assert mode.asked["fit.py _step"] > 3
