"""A finished run of the tiny recipe, made once for all tests of the command line."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from command import Ran, sparring


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Where the finished run is; filled by the first test that asks."""
    return {}


@pytest.fixture
def finished(ran: dict[str, Ran], tiny_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    if "run" not in ran:
        folder = tmp_path_factory.mktemp("cli")
        recipe = folder / "mine.yaml"
        recipe.write_text(yaml.safe_dump(tiny_recipe))
        outcome = sparring("run", recipe, "--out", folder / "run", "--set", "rounds=1")
        assert (outcome.code, outcome.err) == (0, "")
        ran["run"] = Ran(recipe, folder / "run", outcome.out)
    return ran["run"]
