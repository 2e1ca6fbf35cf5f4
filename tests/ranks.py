"""Several ranks on one CPU, forked from a server that has imported torch once; and what the tests have them do."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sparring.certificates.claims.check import Checked, check_all
from sparring.certificates.claims.claim import Claim
from sparring.runtime import devices
from sparring.runtime.launch import environment

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["sparring.rounds.run", "torch.distributed", "pandas", "transformers.models.llama"])


def on_ranks(count: int, function: Callable[..., Any], *args: Any) -> Any:
    """What `function` returns on rank 0 of `count`, while the others follow."""
    store = devices.meeting()
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        members = [
            SERVER.Process(target=_rank, args=(rank, count, store.port, answer, function, args))
            for rank in range(count)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join(120)
        assert [member.exitcode for member in members] == [0] * count
        return pickle.loads(answer.read_bytes())


def _rank(rank: int, count: int, port: int, answer: Path, function: Callable[..., Any], args: Any) -> None:
    os.environ.update(environment(rank, count, port))
    torch.set_num_threads(1)
    gc.freeze()  # as in conftest
    with devices.group() as leads:
        if leads:
            answer.write_bytes(pickle.dumps(function(*args)))


# ---- tasks ------------------------------------------------------------------------------------------


def numbers() -> list[dict[str, Any]]:
    """What every rank sees and gets."""
    return devices.on_all_ranks(_numbers, "task")


def _numbers(word: str) -> list[dict[str, Any]]:
    devices.seed_noise(7, 1)
    gradient = torch.nn.Parameter(torch.zeros(2))
    if devices.rank() == 0:
        gradient.grad = torch.tensor([1.0, 2.0])
    devices.add_gradients([gradient])
    assert gradient.grad is not None
    return devices.all_gather(
        {
            "word": word,
            "rank": devices.rank(),
            "share": list(devices.share(range(5))),
            "deal": devices.deal([5, 1, 1, 4, 1]),
            "broadcast": devices.broadcast(devices.rank() + 10),
            "noise": torch.rand(1).item(),
            "gradient": gradient.grad.tolist(),
        }
    )


class Stopped(Exception):
    """A fit that is stopped on all ranks at once."""


def fitted(kind: str, changes: dict[str, Any], folder: Path, stop_after: int = 0) -> tuple[list[Any], dict[str, Any]]:
    """A fit of the tiny model on all ranks: rows and weights; none when it is stopped."""
    return devices.on_all_ranks(_fitted, kind, changes, folder, stop_after)


def _fitted(kind: str, changes: dict[str, Any], folder: Path, stop_after: int) -> tuple[list[Any], dict[str, Any]]:
    from fit_fakes import ROLLOUTS, exact, examples_for, model_of
    from sparring.algorithms.dpo import DPO
    from sparring.objectives.pairs import PairLogistic
    from sparring.training.fit import fit
    from sparring.training.rollout_logps import rollout_logps
    from sparring.training.sharding import make_scorer, unsharded_weights

    torch.manual_seed(0)

    def report(row: Any) -> None:
        if stop_after and row["step"] > stop_after:
            raise Stopped

    examples = examples_for(model_of("full", seed=1), DPO())
    objective = PairLogistic({"reference": 1.0}, 0.1)
    config = exact(**changes)
    scorer, _ = make_scorer(lambda: model_of(kind), config)
    try:
        rows = fit(scorer, examples, objective, config, 0, folder, report=report)
    except Stopped:
        return [], {}
    # One pack: all ranks but the first run an idle pass.
    logps = rollout_logps(scorer, ROLLOUTS, 10_000, config.precision, shared=True)
    rows[-1]["logps"] = sum(map(sum, logps))
    weights = {name: p.detach().numpy() for name, p in unsharded_weights(scorer.model).items()}
    return rows, weights


def ran(plain: dict[str, Any], out: Path) -> dict[str, Any]:
    """A whole run."""
    from sparring.recipe.reading import parse_recipe
    from sparring.rounds.run import run
    from sparring.runtime.progress import Progress

    return run(parse_recipe(plain), out, Progress(quiet=True))


def studied(file: Path, out: Path) -> dict[str, Any]:
    """A whole study."""
    from sparring.runtime.progress import Progress
    from sparring.studies.reading import load_study
    from sparring.studies.study import run_study

    return run_study(load_study(file), out, Progress(quiet=True))


def sampled(*args: Any) -> list[list[tuple[Sequence[int], int]]]:
    """The requests that every rank sampled in a draw."""
    return devices.on_all_ranks(_sampled, *args)


def _sampled(*args: Any) -> list[list[tuple[Sequence[int], int]]]:
    from sparring.rounds import engines, sample

    asked: list[tuple[Sequence[int], int]] = []

    class Noted(engines.TransformersEngine):
        def sample(self, requests: Any) -> Any:
            asked.extend(tuple(request) for request in requests)
            return super().sample(requests)

    engines.TransformersEngine = Noted  # type: ignore[misc]
    sample.make_draw(*args)
    return devices.all_gather(asked)


def certified(names: Sequence[str]) -> list[tuple[str, Sequence[Claim]]]:
    """Claims that take no fit."""
    return [(name, claims) for name, claims, _ in check_all(names, Checked("exact", rounds=5), lambda row: None)]
