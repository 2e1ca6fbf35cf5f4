"""The Try room in a real browser: two policies side by side, progress, leaving, phones, dark, axe-core."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser import PHONE, WIDE, accessibility
from browsing import Server, Watcher
from payloads import PAYLOADS
from sparring.serve import trying
from sparring.serve.generating import Generator, Question
from sparring.serve.security import Pace
from sparring.serve.site import open_site
from sparring.votes.records import read_records
from talk_fakes import FakeSampler, fake_run

pytestmark = pytest.mark.more
SAID = {
    0: "The sky is blue because it reflects the ocean.",
    1: "Air scatters **short** wavelengths more than long ones:\n\n- blue light reaches you from every direction\n"
    "- red light mostly from where the Sun is",
}


@pytest.fixture(autouse=True)
def _no_pace_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "MESSAGES", Pace(1000, 60.0))


def begun(browser: Any, server: Server, **context: Any) -> tuple[Any, Watcher]:
    """A blind conversation with two policies, by somebody who entered by a name."""
    page = browser.new_context(**{"viewport": WIDE, **context}).new_page()
    watcher = Watcher(page, server.url)
    page.goto(f"{server.url}/try")
    page.fill("#name", "Ada")
    page.keyboard.press("Enter")
    page.wait_for_selector("#second")
    return page, watcher


def talk_of(page: Any) -> None:
    """Begin, and wait for the page's script: without it Enter begins a line."""
    page.click("text=Begin")
    page.wait_for_url("**/try/*")
    page.wait_for_load_state("load")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["1600", "390"])
def test_two_policies_talk_blind_and_the_preference_is_stored(
    browser: Any, serve: Callable[..., Server], tmp_path: Path, size: dict[str, int], scheme: str
):
    sampler = FakeSampler(lambda question: SAID[question.iterate.round])
    site = open_site([fake_run(tmp_path / "demo")], None, tokens=False)
    page, watcher = begun(browser, serve(site, Generator(sampler)), viewport=size, color_scheme=scheme)
    assert page.locator("nav a").all_inner_texts() == ["Watch", "Vote", "Try", "People"]
    assert accessibility(page) == []
    talk_of(page)
    sampler.free.clear()
    page.fill("#message", "Why is the sky blue?")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=of at most 64")
    sampler.free.set()
    page.wait_for_selector(".buttons")
    assert page.locator(".answer h2").all_inner_texts() in (["LEFT", "RIGHT"], ["Left", "Right"])
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert accessibility(page) == []
    folder = Path(os.environ.get("SPARRING_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"serve-try-{size['width']}{'-dark' if scheme == 'dark' else ''}.png")
    better = "left" if "scatters" in page.locator(".answer").first.inner_text() else "right"
    page.click(f".buttons [value={better}]")
    page.wait_for_selector("text=Stored")
    assert "policy 1" in page.locator(".answer.kept h2").inner_text().lower()
    page.fill("#message", "And at sunset?")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.exchange').length === 2")
    page.wait_for_selector(".exchange:last-child .answers")
    assert [one["content"] for one in sampler.asked[-1].messages][1] == SAID[1]
    assert site.database is not None
    (record,) = read_records(site.database)
    assert record.answers[int(record.meant)] == SAID[1]
    assert watcher.wrong == []


def test_leaving_the_page_stops_the_answer(browser: Any, serve: Callable[..., Server], tmp_path: Path):
    sampler = FakeSampler()
    server = serve(open_site([fake_run(tmp_path / "demo")], None, tokens=False), Generator(sampler))
    page, _ = begun(browser, server)
    talk_of(page)
    sampler.free.clear()
    page.fill("#message", "hello")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=of at most 64")
    talk = page.url
    page.goto(f"{server.url}/try")
    end = time.monotonic() + 60
    while "Stopped." not in page.request.get(talk).text():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_hostile_answers_do_nothing(browser: Any, serve: Callable[..., Server], tmp_path: Path):
    said = iter([text for payload in PAYLOADS for text in (payload, f"{payload} again")])

    def say(question: Question) -> str:
        return next(said)

    server = serve(open_site([fake_run(tmp_path / "demo")], None, tokens=False), Generator(FakeSampler(say)))
    page, watcher = begun(browser, server)
    talk_of(page)
    for number, payload in enumerate(PAYLOADS[:25], 1):
        page.fill("#message", payload[:2000].strip() or "blank")
        page.click("#composer button")
        page.wait_for_function(
            "n => document.querySelectorAll('.exchange .answers').length === n "
            "&& !document.getElementById('composer').dataset.sent",
            arg=number,
        )
        assert page.evaluate("document.title") == "Try – Sparring"
        assert page.locator(".exchange:last-child .buttons button").count() == 4
    assert watcher.wrong == []
