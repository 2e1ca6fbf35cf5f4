"""The static pages and the documentation in a real browser: phone and wide, light and dark, print, keys, 200 %.

SPARRING_SCREENSHOTS names a folder that gets the documentation's pictures (docs/pictures); SPARRING_RUN a finished run
whose report is looked at instead of a tiny one's. SPARRING_SITE names the folder that `make docs` wrote.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import PHONE, WIDE, accessibility, chromium, long_lines, unfocused, width
from command import sparring
from conftest import write_jsonl
from sparring.recipe.reading import parse_recipe
from sparring.report.compare import gather, write_comparison
from sparring.report.html import write_report
from sparring.report.summary import load_summary
from sparring.rounds.run import run
from sparring.runtime.progress import QUIET

pytestmark = pytest.mark.more
SITE = Path(os.environ.get("SPARRING_SITE", Path(__file__).parents[2] / "site"))
ORACLE = "{name: function, path: 'oracle_fakes:more_vowels'}"
LONG = "Why, my rhythm: dry, shy, sly and wry. " * 60  # few vowels: the oracle raises e to their number


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def pages(tiny_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Path]:
    """All kinds of static pages, from small runs of the real commands."""
    folder = Path(os.environ.get("SPARRING_RUN", tmp_path / "mine"))
    if not folder.exists():
        run(parse_recipe(tiny_recipe), folder, QUIET)
    summary = load_summary(folder)
    write_report(summary, tmp_path / "report.html")
    write_comparison(gather({"inpo": summary, "dpo with a long name": summary}), tmp_path / "compare.html")
    pairs = [{"prompt": f"Say {i}", "chosen": f"{LONG} {i}", "rejected": f"no {i}"} for i in range(12)]
    labels = write_jsonl(tmp_path / "pairs.jsonl", pairs)
    assert sparring("oracle", "audit", labels, "--oracle", ORACLE, "--out", tmp_path / "audit").code == 0
    sides = []
    for side in ("chosen", "rejected"):
        rows = [{"instruction": p["prompt"], "output": p[side], "generator": side} for p in pairs]
        (tmp_path / f"{side}.json").write_text(json.dumps(rows))
        sides.append(tmp_path / f"{side}.json")
    (tmp_path / "judge.yaml").write_text(ORACLE)
    contest = sparring(
        "evaluate", "head-to-head", *sides, "--oracle", tmp_path / "judge.yaml", "--out", tmp_path / "contest"
    )
    assert contest.code == 0, contest.err
    return {
        "report": tmp_path / "report.html",
        "compare": tmp_path / "compare.html",
        "audit": tmp_path / "audit" / "audit.html",
        "versus": tmp_path / "contest" / "index.html",
        **({"docs": SITE / "index.html"} if (SITE / "index.html").exists() else {}),
    }


def opened(browser: Any, path: Path, **context: Any) -> Any:
    page = browser.new_context(bypass_csp=True, **context).new_page()  # axe-core is a script
    page.set_default_timeout(120_000)  # ms, for busy machines
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["1600", "390"])
def test_pages_fit_read_well_and_are_accessible(
    browser: Any, pages: dict[str, Path], tmp_path: Path, size: dict[str, int], scheme: str
) -> None:
    folder = Path(os.environ.get("SPARRING_SCREENSHOTS", tmp_path))
    for name, path in pages.items():
        page = opened(browser, path, viewport=size, color_scheme=scheme)
        requests: list[str] = []
        page.on("request", lambda request, seen=requests: seen.append(request.url))
        assert width(page) <= size["width"], name
        assert accessibility(page) == [], name
        assert long_lines(page) == [], name
        assert [url for url in requests if url.startswith("http")] == [], name
        page.screenshot(path=folder / f"{name}-{size['width']}{'-dark' if scheme == 'dark' else ''}.png")
        page.context.close()


def test_print_is_light_hides_controls_and_keeps_pictures(browser: Any, pages: dict[str, Path]) -> None:
    for name in ("report", "versus"):
        page = opened(browser, pages[name], viewport=WIDE, color_scheme="dark")
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator("nav:visible, button:visible, input:visible, select:visible").count() == 0, name
        pictures = ".chart" if name == "report" else ".outcomes, .dot"
        assert page.locator(pictures).count() > 0
        shown = page.evaluate("s => [...document.querySelectorAll(s)].every((e) => e.checkVisibility())", pictures)
        assert shown, name
        page.context.close()


def test_keys_reach_every_control_and_the_focus_is_seen(browser: Any, pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        page = opened(browser, path, viewport=WIDE)
        assert unfocused(page, 40) == [], name
        page.context.close()
    page = opened(browser, pages["versus"], viewport=WIDE)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"search", "outcome", "order"} <= set(reached)


def test_twice_the_size_fits(browser: Any, pages: dict[str, Path]) -> None:
    """A browser's zoom of 200 % halves the pixels that a page has."""
    half = {"width": WIDE["width"] // 2, "height": WIDE["height"] // 2}
    for name, path in pages.items():
        page = opened(browser, path, viewport=half, device_scale_factor=2)
        assert width(page) <= half["width"], name
        page.context.close()
