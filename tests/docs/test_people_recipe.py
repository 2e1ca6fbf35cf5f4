"""The recipe of the page for a team is one that a run takes."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sparring.oracles.build import build_oracle
from sparring.recipe.reading import parse_recipe

PAGE = Path(__file__).parents[2] / "docs/how-to/people-as-oracle.md"


def test_the_page_s_recipe_is_read() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    recipe = parse_recipe(yaml.safe_load(text))
    assert recipe.oracle is not None
    assert "Which answer would you rather get?" in build_oracle(recipe.oracle, None).identity
