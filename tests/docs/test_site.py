"""Every page of docs/ is in the site's navigation, its formulas become MathML, and it builds without a warning."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [page.relative_to(ROOT / "docs").as_posix() for page in sorted(ROOT.glob("docs/**/*.md"))]
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def entries(nav: Any) -> Iterator[str]:
    """Every line of the navigation."""
    for part in nav.values() if isinstance(nav, dict) else nav:
        yield from [part] if isinstance(part, str) else entries(part)


@pytest.fixture(scope="module")
def site() -> ModuleType:
    for name in ("mkdocs", "material", "latex2mathml", "pymdownx"):
        pytest.importorskip(name, reason="pip install -e '.[docs]'")
    spec = importlib.util.spec_from_file_location("make_site", ROOT / "docs" / "make_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation() -> None:
    lines = list(entries(NAV))
    folders = {line.removesuffix("/*") for line in lines if line.endswith("/*")}
    missing = [page for page in PAGES if page not in lines and page.rpartition("/")[0] not in folders]
    assert missing == [], "add a line for each under nav: in mkdocs.yml"
    gone = [line for line in lines if not line.endswith("/*") and line not in [*PAGES, "changelog.md"]]
    assert gone == [], "mkdocs.yml names pages that are not there"
    assert len(lines) == len(set(lines))


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#]+)", index))
    assert [page for page in PAGES if page not in {*linked, "index.md"}] == [], "link them from docs/index.md"


def test_a_star_stands_for_the_pages_that_no_line_names(site: ModuleType) -> None:
    nav = ["a.md", {"Folder": ["folder/z.md", "folder/*"]}]
    pages = ["a.md", "folder/x.md", "folder/y.md", "folder/z.md", "other/x.md"]
    assert site.expand(nav, pages) == ["a.md", {"Folder": ["folder/z.md", "folder/x.md", "folder/y.md"]}]


def test_formulas_become_mathml_wholly(site: ModuleType) -> None:
    blocks = [
        (page, block)
        for page in PAGES
        for block in re.findall(r"^```math\n(.*?)^```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL | re.M)
    ]
    assert len(blocks) > 10
    for page, block in blocks:
        drawn = site.formula(block)
        assert drawn.startswith('<div class="math"><math'), page
        # what the converter does not know stays as it is written
        assert not re.search(r"\\[a-zA-Z]|>&amp;<", drawn), f"{page}: {block}"


def test_the_site_builds_without_a_warning(site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    made = {page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")}
    assert {page.removesuffix(".md") + ".html" for page in [*PAGES, "changelog.md"]} <= made
    assert "algorithm: inpo" in (tmp_path / "recipe.html").read_text("utf-8")
    elsewhere = [
        (page, link)
        for page in sorted(made)
        for link in re.findall(r'(?:src|<link[^>]+href)="(https?:[^"]+)"', (tmp_path / page).read_text("utf-8"))
    ]
    assert elsewhere == [], "the pages fetch something"
    shutil.rmtree(tmp_path)
