"""The fit loop: first losses, split into micro-batches, schedules, tripwires, checkpoints."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from conftest import tiny_llama
from fit_fakes import exact, examples_for, model_of
from sparring.algorithms.algorithm import DataFacts
from sparring.algorithms.dpo import DPO
from sparring.algorithms.inpo import INPO
from sparring.algorithms.ipo import IPO
from sparring.algorithms.kto import KTO
from sparring.algorithms.spac import SPAC
from sparring.algorithms.spin import SPIN
from sparring.objectives.pairs import Pair, PairLogistic
from sparring.recipe.sections import FitConfig, TripwireConfig
from sparring.runtime.errors import Tripwire
from sparring.training.batches import TrainingExample, make_batch
from sparring.training.fit import _identity, batches, fit, micro_batches
from sparring.training.optim import rate_factor
from sparring.training.packing import Rollout, dialogues
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import PolicyScorer

ALGORITHMS = [
    (DPO(), math.log(2)),
    (IPO(), 0.25),
    (SPIN(alpha=0.3), math.log(2)),
    (INPO(pairing="best_worst"), 0.25),
    (INPO(pairing="best_worst", target="soft"), 0.2**2),
    (SPAC(), math.log(2)),
    (SPAC(form="linear"), math.log(2) * 20 / 21),
]


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(("algorithm", "first"), ALGORITHMS, ids=lambda x: getattr(x, "about", [""])[0] or "")
def test_at_the_start_log_ratios_are_zero_and_the_loss_closed_form(algorithm, first, kind, tmp_path):
    model = model_of(kind)
    examples = examples_for(model, algorithm)
    objective = algorithm.steps(0, DataFacts(400))[0].objective
    row = fit(PolicyScorer(model), examples, objective, exact(), 0, tmp_path)[0]
    assert row["loss"] == pytest.approx(first, abs=1e-5)
    for name in ("chosen_vs_reference", "rejected_vs_reference", "chosen_vs_iterate", "margin"):
        assert row[name] == pytest.approx(0.0, abs=1e-4)


def gradient(model: torch.nn.Module, examples: list[TrainingExample], objective, config: FitConfig) -> torch.Tensor:
    model.zero_grad()
    scorer = PolicyScorer(model, config.layout)
    for group in micro_batches(examples, config):
        batch = make_batch(group, scorer(scorer.pack([e.rollout for e in group])))
        (objective(batch).total / len(examples)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_batch_has_the_turns_of_a_dialogue_next_to_each_other():
    prompts = [[i, *range(9, 9 + turn)] for turn in range(3) for i in range(4)]
    steps = list(batches(dialogues(prompts), FitConfig(batch_size=5, epochs=2), seed=1))
    assert [len(step) for step in steps] == [5, 5, 2] * 2
    for order in map(list, (chain(*steps[:3]), chain(*steps[3:]))):
        groups = [order[begin : begin + 3] for begin in range(0, 12, 3)]
        assert sorted(groups) == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert steps[:3] != steps[3:]


def talked() -> list[TrainingExample]:
    """Two dialogues of three turns, the first two of which have a pair of answers that the next turns go on from."""
    rollouts = [
        Rollout([start, 2, *said], [[3, 4], [5, 6, 7]])
        for said in ([], [3, 4, 8], [3, 4, 8, 5, 9])
        for start in (1, 11)
    ]
    logps = rollout_logps(PolicyScorer(tiny_llama(seed=1)), rollouts, 100, "float32")
    return [
        TrainingExample(str(i), rollout, ("own",) * 2, (0.7, 0.3), {"reference": row}, (Pair(0, 1, 0.7, 1.0, 0),))
        for i, (rollout, row) in enumerate(zip(rollouts, logps, strict=True))
    ]


@pytest.mark.parametrize("batch_size", [6, 4])
def test_turns_that_share_tokens_train_the_same_weights(batch_size, tmp_path):
    examples, objective, weights, fed = talked(), PairLogistic({"reference": 1.0}, 0.1), [], []
    for layout in ("packed", "padded"):
        model = tiny_llama()
        config = exact(batch_size=batch_size, layout=layout)
        rows = fit(PolicyScorer(model, layout), examples, objective, config, 0, tmp_path / layout)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        fed.append(sum(row["tokens"] for row in rows))
    assert (weights[0] - weights[1]).abs().max() < 1e-5
    alone = sum(example.rollout.tokens("packed") for example in examples)
    assert fed[0] < alone < fed[1]
    if batch_size == 6:
        assert fed[0] == 2 * (7 + 3 * 3)  # each dialogue's longest prompt, and all its answers but their last tokens


def test_a_checkpoint_of_turns_in_another_order_is_not_resumed():
    """Before they stayed together, the steps had other examples."""
    examples, objective = talked(), PairLogistic({"reference": 1.0}, 0.1)
    groups = dialogues([example.rollout.prompt_ids for example in examples])
    assert groups == [[0, 2, 4], [1, 3, 5]]
    now, before = (
        _identity(examples, order, objective, exact(), 0, None) for order in (groups, [[i] for i in range(6)])
    )
    assert now != before


def test_single_and_equal_prompts_are_shuffled_one_by_one():
    """As before turns stayed together, so that such fits end in the same bytes."""
    order = list(range(10))
    random.Random("7/0").shuffle(order)
    for prompts in ([[i, 1] for i in range(10)], [[1, 2]] * 10):
        assert list(chain(*batches(dialogues(prompts), FitConfig(batch_size=4), seed=7))) == order


@pytest.mark.parametrize("algorithm", [a for a, _ in ALGORITHMS], ids=lambda a: a.about.title)
def test_gradients_do_not_depend_on_the_split(algorithm):
    model = tiny_llama()
    examples = examples_for(tiny_llama(seed=1), algorithm)
    objective = algorithm.steps(0, DataFacts(400))[0].objective
    found = [gradient(model, examples, objective, exact(micro_batch_tokens=n)) for n in (1, 20, 10_000)]
    assert len(micro_batches(examples, exact(micro_batch_tokens=1))) == 6
    for other in found[1:]:
        assert (other - found[0]).norm() < 1e-5 * found[0].norm()


def test_a_fit_does_not_depend_on_the_split(tmp_path):
    rows = []
    for tokens in (1, 10_000):
        model = tiny_llama()
        examples = examples_for(tiny_llama(seed=1), DPO())
        objective = PairLogistic({"reference": 1.0}, 0.1)
        config = exact(micro_batch_tokens=tokens, batch_size=3, epochs=3)
        rows.append([r["loss"] for r in fit(PolicyScorer(model), examples, objective, config, 0, tmp_path / "x")])
    assert rows[0] == pytest.approx(rows[1], abs=1e-5)
    assert rows[0][-1] < rows[0][0]


def test_bfloat16_gradients_of_all_micro_batches_count(tmp_path, monkeypatch):
    """Weights are cast once a step, for all micro-batches: none of their gradients may stop at the shared copy."""
    monkeypatch.setattr("sparring.runtime.precision.cpu_has_bfloat16", lambda: True)  # on every CPU, if slowly
    steps = []
    for precision, tokens in (("float32", 10_000), ("bfloat16", 10_000), ("bfloat16", 1)):
        model = tiny_llama()
        before = [p.detach().clone() for p in model.parameters()]
        examples = examples_for(tiny_llama(), DPO())
        config = exact(precision=precision, micro_batch_tokens=tokens, batch_size=6, optimizer="rmsprop")
        rows = fit(PolicyScorer(model), examples, PairLogistic({"reference": 1.0}, 0.1), config, 0, tmp_path / "x")
        moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
        steps.append((rows[0]["grad_norm"], moved))
    (norm, moved), *others = steps
    for other_norm, other in others:
        assert other_norm == pytest.approx(norm, rel=0.02)
        assert torch.cosine_similarity(other, moved, dim=0) > 0.9


def test_a_fit_in_bfloat16_is_one_in_float32_on_a_cpu_that_has_none(tmp_path, monkeypatch):
    fitted = []
    for precision, has in (("float32", True), ("bfloat16", False), ("bfloat16", True)):
        monkeypatch.setattr("sparring.runtime.precision.cpu_has_bfloat16", lambda has=has: has)
        model, config = tiny_llama(), exact(precision=precision)
        examples = examples_for(tiny_llama(), DPO())
        fit(PolicyScorer(model), examples, PairLogistic({"reference": 1.0}, 0.1), config, 0, tmp_path / "x")
        fitted.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    high, without, low = fitted
    assert torch.equal(without, high)
    assert not torch.equal(low, high)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_resumed_fit_gives_the_same_bytes(optimizer, checkpointing, tmp_path):
    """Killed after the second of four steps, then resumed: bit-identical weights."""
    config = exact(
        batch_size=3,
        epochs=2,
        optimizer=optimizer,
        checkpoint_minutes=0.0,
        gradient_checkpointing=checkpointing,
    )
    objective = PairLogistic({"reference": 1.0}, 0.1)
    examples = examples_for(tiny_llama(seed=1), DPO())

    def run(folder: Path, kill_at: int | None) -> torch.nn.Module:
        model, calls = tiny_llama(), []

        def advance(done: int = 1, note: str = "") -> None:
            calls.append(done)
            if len(calls) == kill_at:
                raise KeyboardInterrupt

        fit(PolicyScorer(model), examples, objective, config, 0, folder, advance)
        return model

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 3)
    resumed = run(tmp_path / "cut", None)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("epsilon", "warns"), [(1e-3, True), (1e-12, False)])
def test_a_fit_says_when_the_optimisers_epsilon_damps_it(epsilon, warns, tmp_path):
    said: list[str] = []
    examples, objective = examples_for(tiny_llama(seed=1), DPO()), PairLogistic({"reference": 1.0}, 0.1)
    fit(PolicyScorer(tiny_llama()), examples, objective, exact(epsilon=epsilon), 0, tmp_path, say=said.append)
    assert any("smaller than fit.epsilon = 0.001" in line for line in said) == warns


def test_another_fits_checkpoint_is_not_resumed(tmp_path):
    config, objective = (
        exact(batch_size=3, checkpoint_minutes=0.0),
        PairLogistic({"reference": 1.0}, 0.1),
    )
    examples = examples_for(tiny_llama(seed=1), DPO())
    fit(PolicyScorer(tiny_llama()), examples, objective, config, 0, tmp_path)
    said: list[str] = []
    rows = fit(PolicyScorer(tiny_llama()), examples[:4], objective, config, 0, tmp_path, say=said.append)
    assert [f"{tmp_path / 'checkpoint.pt'} is not used: its fit had other examples" in line for line in said] == [True]
    assert len(rows) == 2


def test_a_fit_that_ran_out_of_memory_goes_on_in_smaller_parts(tmp_path):
    objective, done = PairLogistic({"reference": 1.0}, 0.1), []
    examples = examples_for(tiny_llama(seed=1), DPO())
    config = exact(batch_size=3, epochs=2, checkpoint_minutes=0.0)

    def advance(count: int = 1, note: str = "") -> None:
        done.append(note)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(PolicyScorer(tiny_llama()), examples, objective, config, 0, tmp_path, advance)
    smaller = config.model_copy(update={"micro_batch_tokens": 8})
    done += ["resumed"]
    rows = fit(PolicyScorer(tiny_llama()), examples, objective, smaller, 0, tmp_path, advance)
    assert len(rows) == 4
    assert [bool(note) for note in done[4:]] == [False, False, True, True]  # two steps are not done again


def test_schedules():
    assert [rate_factor(s, 10, 2, "constant") for s in (0, 1, 2, 9)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert rate_factor(6, 10, 2, "linear") == pytest.approx(0.5)
    assert rate_factor(6, 10, 2, "cosine") == pytest.approx(0.5)
    assert rate_factor(9, 10, 2, "linear") > 0


def test_the_schedule_ends_with_the_last_batch_of_the_last_epoch(tmp_path):
    """Six examples in batches of four are two steps an epoch."""
    config = exact(batch_size=4, epochs=2, schedule="linear")
    examples, objective = examples_for(tiny_llama(seed=1), DPO()), PairLogistic({"reference": 1.0}, 0.1)
    rows = fit(PolicyScorer(tiny_llama()), examples, objective, config, 0, tmp_path)
    rates = [1e-3 * rate_factor(step, 4, 0, "linear") for step in range(4)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)


def test_a_diverging_fit_stops_with_a_message(tmp_path):
    examples = examples_for(tiny_llama(), DPO())
    config = exact(learning_rate=10.0, epochs=5, tripwires=TripwireConfig(kl_to_iterate=5.0))
    with pytest.raises(Tripwire, match=r"fit\.|learning_rate"):
        fit(
            PolicyScorer(tiny_llama()),
            examples,
            PairLogistic({"reference": 1.0}, 0.1),
            config,
            0,
            tmp_path,
        )


def test_nothing_to_fit_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nothing to fit"):
        fit(PolicyScorer(tiny_llama()), [], PairLogistic({}, 0.1), exact(), 0, tmp_path)


def test_kto_s_kl_is_that_of_the_whole_step(tmp_path):
    """Taken over a micro-batch, it would make the result depend on the memory that a step may use."""
    fits = []
    for tokens in (1, 10_000):
        model = tiny_llama()
        algorithm = KTO(beta=1.0)
        objective = algorithm.steps(0, DataFacts(6))[0].objective
        examples = [
            replace(example, roles=("desirable" if i % 2 else "undesirable", "mismatched", "unread"), pairs=())
            for i, example in enumerate(examples_for(model, algorithm))
        ]
        # A reference that is not the model, so that the KL is not 0 in the first step either.
        moved = [
            replace(e, anchors={name: [v - 1.0 for v in row] for name, row in e.anchors.items()}) for e in examples
        ]
        config = exact(micro_batch_tokens=tokens, epochs=3)
        fits.append(fit(PolicyScorer(model), moved, objective, config, 0, tmp_path / str(tokens)))
    for one, other in zip(*fits, strict=True):
        assert one["kl_estimate"] > 0.5
        assert one["kl_estimate"] == pytest.approx(other["kl_estimate"], rel=1e-4)
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
