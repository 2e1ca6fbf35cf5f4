"""Moments of the optimiser that go from one fit to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conftest import tiny_llama
from fit_fakes import exact, examples_for
from sparring.algorithms.dpo import DPO
from sparring.objectives.pairs import PairLogistic
from sparring.recipe.sections import FitConfig
from sparring.runtime.files import hash_file
from sparring.training.fit import fit
from sparring.training.moments import Moments
from sparring.training.scorer import PolicyScorer

OBJECTIVE = PairLogistic({"reference": 1.0}, 0.1)


def two_fits(config: FitConfig, folder: Path, carried: bool) -> torch.nn.Module:
    """Two fits of a model, one after the other, the second with the first one's moments or with fresh ones."""
    model, examples = tiny_llama(), examples_for(tiny_llama(seed=1), DPO())
    first, second = folder / "first/m.safetensors", folder / "second/m.safetensors"
    fit(PolicyScorer(model), examples, OBJECTIVE, config, 0, folder / "x", moments=Moments(None, "", first))
    before = Moments(first, hash_file(first), second) if carried else Moments(None, "", second)
    fit(PolicyScorer(model), examples, OBJECTIVE, config, 0, folder / "x", moments=before)
    return model


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_two_fits_with_carried_moments_are_one_fit_of_twice_the_steps(optimizer: str, tmp_path: Path) -> None:
    short = exact(epochs=2, optimizer=optimizer, schedule="constant", warmup=0.0, keep_optimizer=True)
    long = short.model_copy(update={"epochs": 4})
    examples = examples_for(tiny_llama(seed=1), DPO())
    short, long = (config.model_copy(update={"batch_size": len(examples)}) for config in (short, long))
    whole = tiny_llama()
    fit(PolicyScorer(whole), examples, OBJECTIVE, long, 0, tmp_path / "x")
    carried, fresh = (two_fits(short, tmp_path, carried) for carried in (True, False))

    def distance(model: torch.nn.Module) -> float:
        pairs = zip(model.parameters(), whole.parameters(), strict=True)
        return max(float((a - b).detach().abs().max()) for a, b in pairs)

    assert distance(carried) < 0.01 * distance(fresh)  # the same but for the order in which gradients are summed


def test_a_fit_with_carried_moments_that_was_killed_gives_the_same_bytes(tmp_path: Path) -> None:
    config = exact(batch_size=3, epochs=2, checkpoint_minutes=0.0, keep_optimizer=True)
    examples, first = examples_for(tiny_llama(seed=1), DPO()), tmp_path / "first/m.safetensors"
    fit(PolicyScorer(tiny_llama()), examples, OBJECTIVE, config, 0, tmp_path / "x", moments=Moments(None, "", first))

    def second(name: str, kill_at: int | None) -> tuple[torch.nn.Module, Path]:
        model, calls, after = tiny_llama(), [], tmp_path / f"{name}-after/m.safetensors"

        def advance(done: int = 1, note: str = "") -> None:
            calls.append(done)
            if len(calls) == kill_at:
                raise KeyboardInterrupt

        before = Moments(first, hash_file(first), after)
        fit(PolicyScorer(model), examples, OBJECTIVE, config, 0, tmp_path / name, advance, moments=before)
        return model, after

    whole, file = second("whole", None)
    with pytest.raises(KeyboardInterrupt):
        second("cut", 3)
    resumed, other = second("cut", None)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert file.read_bytes() == other.read_bytes()


def test_a_checkpoint_of_a_fit_that_began_with_other_moments_is_not_used(tmp_path: Path) -> None:
    config, said = exact(batch_size=3, checkpoint_minutes=0.0, keep_optimizer=True), list[str]()
    examples = examples_for(tiny_llama(seed=1), DPO())
    first, after = tmp_path / "first/m.safetensors", tmp_path / "after/m.safetensors"
    fit(PolicyScorer(tiny_llama()), examples, OBJECTIVE, config, 0, tmp_path, moments=Moments(None, "", first))
    before = Moments(first, hash_file(first), after)
    fit(PolicyScorer(tiny_llama()), examples, OBJECTIVE, config, 0, tmp_path, say=said.append, moments=before)
    assert any("checkpoint.pt is not used: its fit had other examples" in line for line in said)


def test_moments_of_another_model_are_refused(tmp_path: Path) -> None:
    config, examples = exact(keep_optimizer=True), examples_for(tiny_llama(seed=1), DPO())
    first = tmp_path / "first/m.safetensors"
    fit(PolicyScorer(tiny_llama()), examples, OBJECTIVE, config, 0, tmp_path, moments=Moments(None, "", first))
    frozen = tiny_llama()
    for name, parameter in frozen.named_parameters():
        parameter.requires_grad = "norm" in name
    before = Moments(first, hash_file(first), tmp_path / "after/m.safetensors")
    with pytest.raises(ValueError, match=r"m\.safetensors holds moments of .* Set fit\.keep_optimizer: false\."):
        fit(PolicyScorer(frozen), examples, OBJECTIVE, config, 0, tmp_path / "y", moments=before)
