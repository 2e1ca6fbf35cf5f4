"""YAML that a few hundred bytes make enormous, and YAML that only looks odd."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sparring.recipe.reading import read_recipe
from sparring.runtime.plain_yaml import DEEPEST, LARGEST_TEXT, load_value, load_yaml

LETTERS = "abcdefghij"
LISTS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise(LETTERS)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n" for before, name in pairwise(LETTERS)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LISTS, r"stands for 12,345,679,021 values by its aliases"),
        (MERGES, r"stands for [\d,]+ values by its aliases"),
        ("a: &a [*a]", "inside what it stands for"),
        ("a: &a {b: *a}", "inside what it stands for"),
        ("[" * 5000, f"more than {DEEPEST} levels deep"),
        ("{a: " * 5000, f"more than {DEEPEST} levels deep"),
        ("- " * 5000, f"more than {DEEPEST} levels deep"),
        ("x" * (LARGEST_TEXT + 1), "at most 1,048,576 are read"),
        ("x: 2024-13-45", "month must be in"),
        ("x: " + "9" * 5000, "4300 digits"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("{[a]: 1}", "unhashable key"),
        ("a: *b", "undefined alias"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_what_has_no_bound_is_refused_at_once(text, says):
    start = time.process_time()
    with pytest.raises(ValueError, match=says):
        load_yaml(text)
    assert time.process_time() - start < 5


def test_aliases_and_merges_are_read():
    assert load_yaml("a: &a {b: 1}\nc: {<<: *a, d: 2}\ne: [*a, *a]") == {
        "a": {"b": 1},
        "c": {"b": 1, "d": 2},
        "e": [{"b": 1}, {"b": 1}],
    }
    assert load_yaml("") is None
    assert [load_value(text) for text in ("1e-5", "2", "a", "[1e-5]")] == [1e-5, 2, "a", ["1e-5"]]
    assert load_yaml("a: {x: 1}\nb: {x: 2}") == {"a": {"x": 1}, "b": {"x": 2}}


def test_a_recipe_that_is_a_bomb_is_refused_by_name(tmp_path):
    """Its check had no end, and its memory grew."""
    path = tmp_path / "bomb.yaml"
    path.write_text("oracle:\n  " + LISTS.replace("\n", "\n  "))
    with pytest.raises(ValueError, match=rf"recipe: '{path}' is not readable YAML: it stands for"):
        read_recipe(path)
    path.write_text("rounds: 1\n")
    with pytest.raises(ValueError, match="is not readable YAML"):
        read_recipe(path, [f"oracle={'[' * 5000}"])


def test_no_other_module_reads_yaml():
    source = Path(__file__).parents[2] / "src" / "sparring"
    readers = {p.name for p in source.rglob("*.py") if re.search(r"yaml\.(safe_load|load|full_load)\(", p.read_text())}
    assert readers == {"plain_yaml.py"}
