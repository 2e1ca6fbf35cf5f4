"""Debian's chromium, and what every page must hold in it: it fits, is readable, and axe-core finds nothing serious."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
WIDE, PHONE = {"width": 1600, "height": 1000}, {"width": 390, "height": 844}
MEASURE = 82
"""widths of a 0 that a line of text may be long"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped without Playwright or chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: chromium)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def accessibility(page: Any) -> list[str]:
    """Serious findings of axe-core, which comes with axe-playwright-python."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    script = next(Path(axe.__file__).parent.glob("**/axe.min.js")).read_text()
    page.evaluate(script)
    found = json.loads(page.evaluate("axe.run().then(result => JSON.stringify(result.violations))"))
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]


def width(page: Any) -> int:
    """Pixels that the page needs across."""
    return page.evaluate("document.documentElement.scrollWidth")


def long_lines(page: Any) -> list[str]:
    """Beginnings of running text whose lines are longer than `MEASURE`."""
    return page.evaluate(
        """most => [...document.querySelectorAll('p, li, dd, figcaption, .prompt, .text')].filter((e) => {
          const context = document.createElement('canvas').getContext('2d');
          const style = getComputedStyle(e); // whose `font` is empty beside tabular figures
          context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
          const lines = new Range();
          lines.selectNodeContents(e);
          const longest = Math.max(0, ...[...lines.getClientRects()].map((r) => r.width));
          return longest > most * context.measureText('0').width;
        }).map((e) => e.textContent.trim().slice(0, 60))""",
        MEASURE,
    )


def unfocused(page: Any, presses: int) -> list[str]:
    """What Tab reaches and shows no outline on, in so many presses."""
    wrong = []
    for _ in range(presses):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e === document.body, s.outlineStyle, e.outerHTML.slice(0, 80)]; })()"
        )
        if seen[0]:
            break
        wrong += [seen[2]] if seen[1] == "none" else []
    return wrong
