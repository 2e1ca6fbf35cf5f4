"""The work of a fit and of an anchor pass, counted: what would be slower fails here, on any machine."""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from batches import two_pairs
from conftest import tiny_llama
from sparring.algorithms.algorithm import PolicyRef
from sparring.models import identity
from sparring.objectives.pairs import AdversarialCritic, Batch, Pair, PairLogistic
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import FitConfig
from sparring.rounds import anchor
from sparring.rounds.run import run
from sparring.runtime.progress import Progress
from sparring.training import logprobs
from sparring.training.batches import TrainingExample
from sparring.training.fit import fit
from sparring.training.metrics import MetricSums, pair_metrics
from sparring.training.packing import Rollout
from sparring.training.rollout_logps import ANCHOR_ROOM, rollout_logps
from sparring.training.scorer import PolicyScorer

ROLLOUTS = [Rollout([5] * 10, [[6] * 11, [7] * 11]) for _ in range(8)]
"""30 tokens each, packed; 22 predicted positions"""


@pytest.fixture(autouse=True)
def in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every CPU, if slowly on some."""
    monkeypatch.setattr("sparring.runtime.precision.cpu_has_bfloat16", lambda: True)


class Calls(TorchDispatchMode):
    """Counts aten operations, and casts of the model's weights to bfloat16."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.weights, self.found = {p.data_ptr() for p in model.parameters()}, Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.found[name] += 1
        out = func(*args, **(kwargs or {}))
        if name == "_to_copy" and out.dtype == torch.bfloat16 and args[0].data_ptr() in self.weights:
            self.found["weight casts"] += 1
        return out


def counted(budget: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], int]:
    """Operations and passes of one optimiser step over all rollouts in bfloat16."""
    model = tiny_llama()
    scorer, passes = PolicyScorer(model), []
    true = PolicyScorer.token_logps
    monkeypatch.setattr(PolicyScorer, "token_logps", lambda self, pack: passes.append(1) or true(self, pack))
    examples = [
        TrainingExample(str(i), r, ("own",) * 2, (0.5,) * 2, {"reference": [-50.0, -50.0]}, (Pair(0, 1),))
        for i, r in enumerate(ROLLOUTS)
    ]
    config = FitConfig(batch_size=8, micro_batch_tokens=budget, warmup=0.0)
    with Calls(model) as calls:
        fit(scorer, examples, PairLogistic({"reference": 1.0}, 0.1), config, 0, Path("unused"))
    monkeypatch.setattr(PolicyScorer, "token_logps", true)
    return calls.found, len(passes)


def test_a_step_takes_as_few_passes_as_the_budget_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [counted(budget, monkeypatch)[1] for budget in (30, 60, 120, 240)] == [8, 4, 2, 1]


def test_every_weight_is_cast_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    many, one = (counted(budget, monkeypatch)[0]["weight casts"] for budget in (30, 240))
    assert many == one == matrices(tiny_llama())


def matrices(model: torch.nn.Module) -> int:
    """Weights that products are made with: all linear layers, the head among them."""
    return sum(isinstance(module, torch.nn.Linear) for module in model.modules())


def test_the_last_chunk_of_logits_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counted(240, monkeypatch)[0]["mm"]
    monkeypatch.setattr(logprobs, "chunk_rows", lambda vocabulary: 44)  # 176 positions: 4 chunks
    chunks = counted(240, monkeypatch)[0]["mm"]
    slices = -(-tiny_llama().config.vocab_size // logprobs.VOCABULARY_SLICE)
    # Three more chunks: forward, again in backward, gradients of hidden states and of each slice of the weight.
    assert chunks - whole == 3 * (1 + 1 + 1 + slices)


@pytest.mark.parametrize("budget", [30, 240])
def test_an_anchor_pass_casts_every_weight_once(budget: int) -> None:
    model = tiny_llama()
    with Calls(model) as calls:
        rollout_logps(PolicyScorer(model), ROLLOUTS, budget)
    assert calls.found["weight casts"] == matrices(model)


def test_anchors_run_more_at_once_than_the_fit_and_one_policy_is_in_memory_at_a_time(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[Any] = []
    budgets: set[int] = set()
    true_scorer, true_logps = anchor.make_scorer, anchor.rollout_logps

    def make_scorer(load: Any, config: Any) -> Any:
        assert not [ref for ref in alive if ref() is not None], "the last anchor is still in memory"
        scorer, verified = true_scorer(load, config)
        alive.extend(weakref.ref(p) for p in scorer.parameters())
        return scorer, verified

    def logps(scorer: Any, rollouts: Any, budget: int, *rest: Any, **named: Any) -> Any:
        budgets.add(budget)
        return true_logps(scorer, rollouts, budget, *rest, **named)

    monkeypatch.setattr(anchor, "make_scorer", make_scorer)
    monkeypatch.setattr(anchor, "rollout_logps", logps)
    recipe = parse_recipe({**tiny_recipe, "evaluation": {"every_iterate": False, "samples": 1, "prompts": 2}})
    run(recipe, tmp_path / "run", Progress(quiet=True))
    assert alive
    assert budgets == {ANCHOR_ROOM * recipe.fit.micro_batch_tokens}


def test_a_second_step_on_the_same_pairs_runs_only_new_policies(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[PolicyRef] = []
    true = anchor.policy_logps
    monkeypatch.setattr(anchor, "policy_logps", lambda *given: ran.append(given[1]) or true(*given))
    short = {"every_iterate": False, "samples": 1, "prompts": 2}
    plain = {**tiny_recipe, "algorithm": {"name": "onpo"}, "rounds": 2, "evaluation": short}
    run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    assert ran[:2] == [PolicyRef(0), PolicyRef(1, "base")]
    assert {*ran[2:5]} == {PolicyRef(0), PolicyRef(1), PolicyRef(1, "base")}
    assert ran[5:] == [PolicyRef(2, "base")]


@pytest.mark.parametrize(
    "objective",
    [PairLogistic({"reference": 1.0}, beta=0.1), AdversarialCritic(beta=1.0, data_weight=1.0, pessimism_weight=1.0)],
)
def test_losses_and_metrics_ask_the_device_for_no_number(objective):
    """The meta device has none: whatever asked for one, or for a mask's length, would fail."""
    plain = two_pairs(
        [-3.0, -4.0, -5.0], pairs=((0, 1), (1, 2)), terms=[0, 1], reference=[-3.0] * 3, iterate=[-3.0] * 3
    )
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    moved = {name: x.detach().to("meta") for name, x in fields.items() if isinstance(x, torch.Tensor)}
    anchors = {name: x.to("meta") for name, x in plain.anchor_logps.items()}
    batch = Batch(**{**fields, **moved, "anchor_logps": anchors})
    sums, loss = MetricSums(), objective(batch)
    sums.add(pair_metrics(batch, loss))
    assert {"margin", "accuracy", "chosen_vs_reference", "policy_margin"} <= sums.sums.keys()


def test_weights_that_did_not_change_are_read_once(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, opened = tmp_path / "model", []
    shutil.copytree(tiny_model, folder)
    true = identity.safe_open
    monkeypatch.setattr(identity, "safe_open", lambda *words: opened.append(words) or true(*words))
    first = identity.hash_weights(folder)
    once = len(opened)
    assert identity.hash_weights(folder) == first
    assert len(opened) == once
    tiny_llama(seed=1).save_pretrained(folder)
    assert identity.hash_weights(folder) != first
