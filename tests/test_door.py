"""The one door: what it offers, what it costs, and that the documentation goes through it alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparring

ROOT = Path(__file__).parents[1]
INSIDE = {"own-evaluation.md"}
"""pages whose code becomes a file of the package itself"""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*.py"))]
PAGES = [page for page in PAGES if page.name not in INSIDE]


def test_every_public_name_can_be_imported() -> None:
    assert {"run", "load_recipe", "Algorithm", "Batch", "Comparison", "Guard"} <= set(sparring.__all__)
    assert all(getattr(sparring, name) is not None for name in sparring.__all__)


def test_import_loads_nothing_else() -> None:
    code = "import sys, sparring; print({'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="sparing_partner"):
        _ = sparring.sparing_partner


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_import_from_the_door_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^ *(?:from sparring|import sparring).*$", text, re.MULTILINE)
    for line in lines:
        statement = ast.parse(line.strip() if not line.rstrip().endswith("(") else f"{line.strip()} run)").body[0]
        assert isinstance(statement, ast.ImportFrom), f"{page.name}: {line}"
        assert statement.module == "sparring", f"{page.name}: {line}"
        assert {alias.name for alias in statement.names} <= set(sparring.__all__), f"{page.name}: {line}"


def test_the_reference_page_lists_every_public_name() -> None:
    page = (ROOT / "docs/how-to/use-from-python.md").read_text(encoding="utf-8")
    missing = [name for name in sparring.__all__ if f"`{name}`" not in page]
    assert not missing
