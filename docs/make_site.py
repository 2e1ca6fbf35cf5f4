"""Hooks of the documentation site (mkdocs.yml): what the pages need beyond Markdown.

The recipe reference is made from the code and the changelog from CHANGELOG.md, colours and type come from Sparring's
own pages, formulas become MathML (browsers draw it themselves: no script, nothing fetched), `folder/*` in the
navigation stands for the pages that no line names, and anchors are GitHub's. Leaves out: the theme.

    mkdocs build
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "src" / "sparring"
CHANGELOG = "changelog.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Formulas, anchors and the navigation."""
    fence = {"name": "math", "class": "math", "format": formula}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    if config.nav is not None:
        pages = [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))]
        config.nav = expand(config.nav, pages)
    return config


def expand(nav: list[Any], pages: list[str]) -> list[Any]:
    """The navigation with `folder/*` replaced by the pages of that folder that are not named elsewhere."""
    named = set(_named(nav))

    def replaced(entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if isinstance(entry, dict):
                yield {title: list(replaced(v)) if isinstance(v, list) else v for title, v in entry.items()}
            elif entry.endswith("/*"):
                yield from (page for page in pages if page.rpartition("/")[0] == entry[:-2] and page not in named)
            else:
                yield entry

    return list(replaced(nav))


def _named(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            yield from _named(value) if isinstance(value, list) else [value]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The changelog, which lies beside docs/; and what the site shares with Sparring's own pages: tokens and icon."""
    text = (DOCS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, CHANGELOG, content=text.replace("](docs/", "](")))
    files.append(File.generated(config, "tokens.css", content=tokens()))
    files.append(File.generated(config, "icon.svg", abs_src_path=str(PACKAGE / "serve" / "pages" / "icon.svg")))
    return files


def tokens() -> str:
    """The first rule of the pages' style sheet: its colours, type and space."""
    text = (PACKAGE / "report" / "page.css").read_text(encoding="utf-8")
    return text[text.index(":root {") : text.index("}") + 2]


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:
    """The recipe reference of the code as it is now."""
    return _reference() if page.file.src_uri == "recipe.md" else None


def _reference() -> str:
    spec = importlib.util.spec_from_file_location("make_recipe_reference", DOCS / "make_recipe_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reference()


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    r"""Bars in code cells: GitHub wants `a \| b` there, Python-Markdown `a | b`."""
    rows = re.compile(r"^\|.*$", re.M)
    return rows.sub(lambda row: re.sub(r"`[^`]+`", lambda code: code[0].replace(r"\|", "|"), row[0]), markdown)


def formula(source: str, *_: Any, **__: Any) -> str:
    """A fenced `math` block as MathML; GitHub wants `aligned`, the converter knows it as `align*`."""
    return f'<div class="math">{convert(source.replace("{aligned}", "{align*}"), display="block")}</div>'
