"""The fit loop: one round's examples, one objective, one model.

Micro-batches are packed to a token budget and their gradients add up to the big batch's exactly, because
objectives return sums over examples. Several devices add up the same way: each takes a part of every batch, and
gradients are summed once a step (`runtime/devices.py`). The loop is blind to the algorithm. Leaves out: evaluation.

    fit(PolicyScorer(model), examples, objective, FitConfig(), seed=0, folder=Path("fit.partial"))
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from sparring.objectives.pairs import Objective, OfWholeStep
from sparring.recipe.sections import FitConfig
from sparring.runtime import devices
from sparring.runtime.memory import trim_heap
from sparring.runtime.precision import products_in
from sparring.training.accumulate import accumulating
from sparring.training.batches import TrainingExample, make_batch
from sparring.training.checkpoint import load_checkpoint, save_checkpoint
from sparring.training.metrics import MetricSums, check_tripwires, merged, pair_metrics
from sparring.training.moments import Moments, load_moments, save_moments
from sparring.training.optim import DAMPED, damped_share, make_optimizer
from sparring.training.packing import dialogues, plan_rollouts
from sparring.training.scorer import PolicyScorer
from sparring.training.sharding import full_tensor, shard_state

Row = dict[str, float]


def batches(groups: Sequence[Sequence[int]], config: FitConfig, seed: int) -> Iterator[list[int]]:
    """Indices of each optimiser step: a fresh shuffle of the groups per epoch; the last batch may be smaller.

    A group, the turns of a dialogue or a single example, stays next to each other, so that its turns share tokens.
    """
    for epoch in range(config.epochs):
        random.Random(f"{seed}/{epoch}").shuffle(order := list(groups))
        flat = [index for group in order for index in group]
        for begin in range(0, len(flat), config.batch_size):
            yield flat[begin : begin + config.batch_size]


def micro_batches(examples: Sequence[TrainingExample], config: FitConfig) -> list[list[TrainingExample]]:
    """A batch split by the token budget."""
    packs = plan_rollouts([example.rollout for example in examples], config.micro_batch_tokens, config.layout)
    return [[examples[i] for i in pack] for pack in packs]


def fit(
    scorer: PolicyScorer,
    examples: Sequence[TrainingExample],
    objective: Objective,
    config: FitConfig,
    seed: int,
    folder: Path,
    advance: Callable[..., None] = lambda _, note="": None,
    report: Callable[[Row], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    moments: Moments | None = None,
) -> list[Row]:
    """Train the scorer's model in place; returns a row of metrics per optimiser step, which `report` gets at once.

    `folder` holds the checkpoint. A fit continues from its own, with the same result; another fit's is reported by
    `say`, and the fit starts over. `moments`: the files through which they go from fit to fit; None: they do not.

    Raises:
        ValueError: there are no examples.
        Tripwire: a metric crossed its bound; the model is then not to be used.
    """
    if not examples:
        raise ValueError("nothing to fit: every example of this round was dropped.")
    steps = config.epochs * math.ceil(len(examples) / config.batch_size)
    optimizer, schedule = make_optimizer(scorer.parameters(), config, steps)
    groups = dialogues([example.rollout.prompt_ids for example in examples])
    fit_id = _identity(examples, groups, objective, config, seed, moments)
    state = load_checkpoint(folder, scorer, fit_id, say)
    rows: list[Row] = []
    if state is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict(shard_state(state["optimizer"], parameters))
        schedule.load_state_dict(state["schedule"])
        rows = list(state["rows"])
        say(f"fit: going on after step {len(rows)} of {steps}")
    elif moments is not None and moments.before is not None:
        load_moments(moments.before, scorer, optimizer)
    if config.gradient_checkpointing:
        scorer.causal.gradient_checkpointing_enable({"use_reentrant": False})
    scorer.train()
    saved = time.monotonic()
    for step, indices in enumerate(batches(groups, config, seed)):
        if step < len(rows):
            advance(1)
            continue
        rate = float(schedule.get_last_lr()[0])
        devices.seed_noise(seed, step)
        row = _step(scorer, optimizer, [examples[i] for i in indices], objective, config, say if step == 0 else None)
        schedule.step()
        rows.append({"step": step + 1, "learning_rate": rate, **row})
        report(rows[-1])
        check_tripwires(rows[-1], config.tripwires)
        advance(1, note=f"loss {row['loss']:.4g}")
        if devices.broadcast(time.monotonic() - saved >= 60 * config.checkpoint_minutes) and step + 1 < steps:
            states = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            save_checkpoint(folder, scorer, {"fit_id": fit_id, "rows": rows, **states})
            saved = time.monotonic()
    scorer.eval()
    if moments is not None:
        save_moments(moments.after, scorer, optimizer)
    return rows


def _step(
    scorer: PolicyScorer,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[TrainingExample],
    objective: Objective,
    config: FitConfig,
    say: Callable[[str], None] | None = None,
) -> Row:
    """One optimiser step over all ranks' parts of a batch; warns by `say` if the optimiser's epsilon damps it."""
    start, sums, tokens = time.monotonic(), MetricSums(), 0
    device, total = scorer.causal.device.type, torch.zeros((), device=scorer.causal.device)
    own = devices.deal([example.rollout.tokens(config.layout) for example in examples])
    groups = micro_batches([examples[i] for i in own], config)
    # Sharded weights are gathered by all ranks in every pass: ranks with fewer micro-batches run idle passes beside.
    region = nullcontext() if config.shard_weights else accumulating()
    idle = max(devices.all_gather(len(groups))) - len(groups) if config.shard_weights else 0
    # One region around all micro-batches: autocast then keeps its copies of trained weights for the whole step
    # (frozen ones, under an adapter, it casts in every pass).
    with region, products_in(config.precision, device):
        objective = _settled(objective, scorer, groups, [examples[0]] * idle)
        for group in groups:
            pack = scorer.pack([example.rollout for example in group])
            logps_R = scorer(pack)
            with torch.autocast(device, enabled=False):
                batch = make_batch(group, logps_R)
                loss = objective(batch)
                (loss.total / len(examples)).backward()
            total = total + loss.total.detach()
            sums.add(pair_metrics(batch, loss))
            tokens += pack.input_ids_BT.numel()
        for _ in range(idle):
            (scorer(scorer.pack([examples[0].rollout])).sum() * 0.0).backward()
    devices.add_gradients(scorer.parameters())
    norm = float(full_tensor(torch.nn.utils.clip_grad_norm_(scorer.parameters(), config.max_grad_norm)))
    if say is not None and (share := damped_share(scorer.parameters(), config.epsilon)) > DAMPED:
        say(
            f"warning: {share:.0%} of the gradient's entries are smaller than fit.epsilon = {config.epsilon:g}, so "
            "their steps are damped. Lower it, for example by the factor of algorithm.step_size."
        )
    optimizer.step()
    optimizer.zero_grad()
    if device == "cpu":
        trim_heap()
    parts = devices.all_gather((sums.totals(), float(total), tokens, norm))
    assert len({repr(norm) for *_, norm in parts}) == 1, "the ranks' gradients differ"
    totals, tokens = merged(totals for totals, *_ in parts), sum(tokens for _, _, tokens, _ in parts)
    seconds = time.monotonic() - start
    return {
        "loss": sum(loss for _, loss, *_ in parts) / len(examples),
        **{name: value / number for name, (value, number) in totals.items()},
        "grad_norm": norm,
        "clipped": float(norm > config.max_grad_norm),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


@torch.no_grad()
def _settled(
    objective: Objective,
    scorer: PolicyScorer,
    groups: Sequence[Sequence[TrainingExample]],
    idle: Sequence[TrainingExample],
) -> Objective:
    """The objective with what it needs to know of all ranks' micro-batches (KTO's KL), by a pass over them."""
    if not isinstance(objective, OfWholeStep) or objective.is_settled:
        return objective
    scored = ((group, scorer(scorer.pack([example.rollout for example in group]))) for group in groups)
    parts = [objective.statistic(make_batch(group, logps_R)) for group, logps_R in scored]
    for example in idle:
        scorer(scorer.pack([example.rollout]))
    parts = [part for of_rank in devices.all_gather(parts) for part in of_rank]
    return objective.settled(sum(total for total, _ in parts), sum(count for _, count in parts))


def _identity(
    examples: Sequence[TrainingExample],
    groups: Sequence[Sequence[int]],
    objective: Objective,
    config: FitConfig,
    seed: int,
    moments: Moments | None,
) -> str:
    """SHA-256 of what a fit's result depends on, so that a checkpoint of another fit is never resumed."""
    free = {"shard_weights", "micro_batch_tokens", "checkpoint_minutes", "keep_optimizer"}
    # Checkpoints from before these fields existed have the identity of their defaults.
    new = {name for name, default in (("attention", "blocks"), ("epsilon", 1e-8)) if getattr(config, name) == default}
    settings = config.model_dump_json(exclude=free | new)
    before = [moments.before_hash] if moments is not None and moments.before is not None else []
    # Before the turns of a dialogue stayed together, its steps were made of other examples.
    order = ["dialogues"] if len(groups) < len(examples) else []
    digest = hashlib.sha256(repr([objective, settings, seed, *before, *order]).encode())
    for e in examples:  # one at a time: as text a large round is gigabytes
        digest.update(repr((e.id, e.rollout, e.pairs, {name: list(v) for name, v in e.anchors.items()})).encode())
    return digest.hexdigest()
