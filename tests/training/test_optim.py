"""The optimisers: what each is given, and what is refused where it cannot run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import FitConfig
from sparring.rounds.run import run
from sparring.runtime.progress import Progress
from sparring.training.optim import PART, check_optimizer, damped_share, make_optimizer, rate_factor


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3), requires_grad=False)]


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("rmsprop", torch.optim.RMSprop)])
def test_trainable_weights_only(name: Any, kind: type):
    optimizer, _ = make_optimizer(weights(), FitConfig(optimizer=name, weight_decay=0.1), steps=3)
    assert type(optimizer) is kind
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_8_bit_moments_are_bitsandbytes_own(monkeypatch: pytest.MonkeyPatch):
    class AdamW8bit(torch.optim.AdamW):
        pass

    package, module = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.optim")
    module.AdamW8bit = AdamW8bit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    optimizer, _ = make_optimizer(weights(), FitConfig(optimizer="adamw_8bit", betas=(0.8, 0.9)), steps=3)
    assert type(optimizer) is AdamW8bit
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_8_bit_moments_without_a_gpu_are_refused_before_any_work(tiny_recipe: dict[str, Any], tmp_path: Path):
    tiny_recipe["fit"] = {**tiny_recipe.get("fit", {}), "optimizer": "adamw_8bit"}
    with pytest.raises(ValueError, match=r"fit\.optimizer = 'adamw_8bit' needs an NVIDIA GPU"):
        run(parse_recipe(tiny_recipe), tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run/data").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'sparring\[qlora\]'"):
        check_optimizer(FitConfig(optimizer="adamw_8bit"))


def test_schedules():
    assert rate_factor(0, 10, 2, "linear") == pytest.approx(1 / 3)
    assert rate_factor(2, 10, 2, "linear") == 1.0
    assert rate_factor(6, 10, 2, "linear") == 0.5
    assert rate_factor(6, 10, 2, "cosine") == pytest.approx(0.5)
    assert rate_factor(9, 10, 2, "constant") == 1.0


def test_the_share_of_entries_below_epsilon_leaves_out_those_that_are_zero():
    weight, idle = torch.nn.Parameter(torch.zeros(PART + 6)), torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.zeros(PART + 6)
    weight.grad[:2], weight.grad[-2:] = torch.tensor([1e-9, -1e-9]), torch.tensor([1.0, -1e-9])
    assert damped_share([weight, idle], 1e-8) == 3 / 4
    assert damped_share([idle], 1e-8) == 0.0
