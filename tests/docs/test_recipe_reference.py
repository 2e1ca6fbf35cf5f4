"""docs/recipe.md is generated from the code, links resolve, and printed recipes and code work."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from sparring.algorithms.algorithm import SHIPPED as ALGORITHMS
from sparring.certificates.claims.check import check
from sparring.oracles import abilities
from sparring.oracles.build import SHIPPED
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("docs/**/*.md")) + [p for p in [ROOT / "README.md"] if p.exists()]
HOW_TO = ROOT / "docs" / "how-to"


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a page in one language."""
    return iter(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.M))


def write_modules(page: Path, folder: Path) -> None:
    """Python blocks that begin with `# name.py` become that module."""
    for block in blocks(page, "python"):
        if found := re.match(r"# (\w+\.py)\n", block):
            (folder / found[1]).write_text(block)


def links(page: Path) -> Iterator[str]:
    """Relative link targets of a page, code left out."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def recipes() -> Iterator[Any]:
    for page in PAGES:
        for index, block in enumerate(blocks(page, "yaml")):
            for plain in yaml.safe_load_all(block):  # a manifest of Kubernetes may hold several
                if isinstance(plain, dict) and {"model", "data", "algorithm"} <= plain.keys():
                    yield pytest.param(page, plain, id=f"{named(page)}-{index}")


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_recipe_reference", ROOT / "docs" / "make_recipe_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recipe_reference_is_up_to_date():
    written = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert written == load_generator().reference(), "run: python docs/make_recipe_reference.py"


def test_every_field_of_a_shipped_oracle_has_a_meaning():
    written = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8").partition("## oracle, and each entry")[2]
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    assert [row[0] for row in rows if row[-1].strip(" |") == ""] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_resolve(page: Path):
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{named(page)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{named(page)} links to {target}"


@pytest.mark.parametrize(("page", "plain"), list(recipes()))
def test_printed_recipes_parse(page: Path, plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_modules(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    parse_recipe(plain)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_a_page_a_recipe_a_certificate_and_a_line_in_the_readme(name: str):
    page = ROOT / "docs" / "algorithms" / f"{name}.md"
    assert name in [yaml.safe_load(block).get("algorithm", {}).get("name") for block in blocks(page, "yaml")]
    assert f"](../certificates.md#{name})" in page.read_text(encoding="utf-8")
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Algorithms")[2].partition("\n## ")[0]
    assert any(f"`{name}`" in line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))


def test_the_example_algorithm_runs(tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_modules(HOW_TO / "own-algorithm.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    section = {"name": "my_methods:MovingReference", "step_size": 2.0, "kl_to_reference": 0.1}
    recipe = parse_recipe({**tiny_recipe, "algorithm": section, "rounds": 3})
    summary = run(recipe, tmp_path / "run", Progress(quiet=True))
    assert len(summary["fit"]) == 3


def test_the_example_algorithm_is_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_modules(HOW_TO / "own-algorithm.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    checked, _ = check("my_checked:Checked", rounds=6)
    assert [(row.name, row.verdict) for row in checked] == [("fit_is_closed_form", "holds"), ("loss_gradient", "holds")]
    selecting, _ = check("my_methods:MovingReference", rounds=2)
    verdicts = [(row.name, row.verdict) for row in selecting]
    assert verdicts == [("fit_is_closed_form", "not checked"), ("loss_gradient", "holds")]
    assert "pairs of BestWorst" in selecting[0].measured


def test_the_example_oracle_runs(tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_modules(HOW_TO / "own-oracle.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    section = {"name": "my_oracle:Keywords", "words": ["a", "e", "o"]}
    recipe = parse_recipe({**tiny_recipe, "oracle": section, "rounds": 1})
    summary = run(recipe, tmp_path / "run", Progress(quiet=True))
    (judgment,) = summary["judgments"]
    assert judgment["identity"] == "keywords-v1(a,e,o;scale=1)"
    assert (judgment["name"], judgment["about"]) == ("keywords", "Prefers the answer that uses more of some words.")


def test_a_shipped_oracle_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_modules(HOW_TO / "own-oracle.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SHIPPED, "keywords", "my_oracle:Keywords")
    assert "### oracle: keywords\n\nCounts words; see the module.\n" in load_generator().reference()


def test_the_page_names_every_ability():
    told = re.findall(r"^\| `(\w+)` \| `", (HOW_TO / "own-oracle.md").read_text(), re.M)
    assert told == [
        name
        for name, one in vars(abilities).items()
        if getattr(one, "__module__", "") == abilities.__name__ and getattr(one, "_is_protocol", False)
    ]
