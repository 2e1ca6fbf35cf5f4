"""The pages in a real browser, Debian's chromium: two voters, keys, hostile text, a lost server, phones, dark.

SPARRING_SCREENSHOTS names a folder that gets the documentation's pictures (docs/pictures).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser import PHONE, WIDE, accessibility
from browsing import Server, Watcher
from payloads import PAYLOADS
from sparring.runtime.layout import VOTES
from sparring.serve.site import Site, open_site
from sparring.votes.ballot import Ballot
from sparring.votes.database import open_database
from sparring.votes.items import make_item
from sparring.votes.people import add_voter
from sparring.votes.records import read_records
from vote_fakes import QUESTION

pytestmark = pytest.mark.more
READABLE = 1050
"""ms after which keys work"""


def entered(browser: Any, server: Server, name: str = "Ada", **context: Any) -> tuple[Any, Watcher]:
    page = browser.new_context(**{"viewport": WIDE, **context}).new_page()
    watcher = Watcher(page, server.url)
    page.goto(f"{server.url}/vote")
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#ballot")
    return page, watcher


def showing(page: Any) -> str | None:
    found = page.query_selector("[name=showing]")
    return found.get_attribute("value") if found else None


def press(page: Any, key: str) -> None:
    """A key, when it counts, and the next pair after it, when the vote is on disk."""
    before = showing(page)
    page.wait_for_timeout(READABLE)
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('[name=showing]')?.value !== before "
        "&& !document.body.classList.contains('sending')",
        arg=before,
    )


def votes(site: Site) -> list[tuple[str, str]]:
    assert site.database is not None
    return [(record.voter, record.verdict) for record in read_records(site.database) if not record.undone]


def test_keys_vote_after_a_second_and_not_with_modifiers(browser: Any, serve: Callable[..., Server], local: Site):
    page, watcher = entered(browser, serve(local))
    first = showing(page)
    for key in ("1", "Control+1", "Alt+ArrowLeft"):
        page.keyboard.press(key)
    assert "Read first" in page.inner_text("#say")
    assert (showing(page), votes(local)) == (first, [])
    for key in ("ArrowLeft", "2", "t", "4", "s"):
        press(page, key)
    page.keyboard.press("u")
    page.wait_for_selector("text=Taken back.")
    assert [verdict for _, verdict in votes(local)] == ["left", "right", "tie", "both_bad"]
    page.keyboard.press("p")
    assert page.is_visible(".source")
    assert not page.is_visible(".rendered")
    page.keyboard.press("?")
    assert page.is_visible("text=take your last vote back")
    press(page, "ArrowRight")
    assert page.is_visible("text=take your last vote back")
    assert watcher.wrong == []


def test_buttons_are_reached_by_tab_alone(browser: Any, serve: Callable[..., Server], local: Site):
    page, watcher = entered(browser, serve(local))
    labels = []
    for _ in range(16):
        page.keyboard.press("Tab")
        labels.append(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel"))
        if "Tie" in labels[-1]:
            break
    assert "Tie" in labels[-1], labels
    before = showing(page)
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('[name=showing]').value !== before", arg=before)
    page.wait_for_function("() => !document.body.classList.contains('sending')")
    assert votes(local) == [("Ada", "tie")]
    assert page.evaluate("document.activeElement.className") == "question"
    assert watcher.wrong == []


def test_two_voters_at_once_and_two_tabs(browser: Any, serve: Callable[..., Server], local: Site):
    server = serve(local)
    ada, _ = entered(browser, server)
    bob, _ = entered(browser, server, "Bob")
    tab = ada.context.new_page()
    tab.goto(f"{server.url}/vote")
    assert showing(ada) == showing(tab)
    press(ada, "1")
    tab.wait_for_timeout(READABLE)
    tab.keyboard.press("2")
    tab.wait_for_selector("text=you voted on this pair in another tab")
    for _ in range(4):
        press(ada, "1")
        press(bob, "2")
    ada.reload()
    ada.go_back()
    ada.wait_for_selector("#ballot, #name")
    stored = votes(local)
    assert stored.count(("Ada", "left")) == 5
    assert stored.count(("Bob", "right")) == 4
    assert len(stored) == 9


def test_a_vote_survives_a_server_that_stops(browser: Any, serve: Callable[..., Server], local: Site):
    server = serve(local)
    page, watcher = entered(browser, server)
    for verdict in ("1", "2", "1"):
        before = showing(page)
        page.wait_for_timeout(READABLE)
        server.stop()
        page.keyboard.press(verdict)
        page.wait_for_selector("text=Not stored yet")
        assert showing(page) != before  # the next pair shows at once, and takes no key until the vote is on disk
        page.wait_for_timeout(READABLE)
        page.keyboard.press("2")
        assert page.evaluate("document.body.classList.contains('sending')")
        server.start()
        page.wait_for_function("() => !document.body.classList.contains('sending')")
        assert page.inner_text("#say") == ""
    assert [verdict for _, verdict in votes(local)] == ["left", "right", "left"]
    page.context.set_offline(True)  # a laptop that is closed
    page.wait_for_timeout(READABLE)
    page.keyboard.press("2")
    page.wait_for_selector("text=Not stored yet")
    page.context.set_offline(False)
    page.wait_for_function("() => !document.body.classList.contains('sending')")
    assert len(votes(local)) == 4
    assert watcher.wrong == []


def test_hostile_text_does_nothing(browser: Any, serve: Callable[..., Server], tmp_path: Path):
    payloads = PAYLOADS
    assert len(payloads) >= 60
    ballot = Ballot(open_database(tmp_path / "contest" / VOTES))
    hostile = [
        make_item(payload[:300], [{"role": payload[:40], "content": payload}], payload, f"{payload} again")[0]
        for payload in payloads
    ]
    ballot.ask(hostile, 1, 3)
    ballot.database.close()
    site = open_site([tmp_path / "contest"], None, tokens=False)
    server = serve(site)
    page, watcher = entered(browser, server, "<img src=x onerror=alert(1)>")
    for number in range(len(payloads)):
        assert page.locator("#live button[name=verdict]").count() == 5, number
        assert page.evaluate("document.title") == "Vote – Sparring"
        box = page.locator(".buttons [value=right]").bounding_box()
        assert box["width"] > 50
        before = showing(page)
        page.click(".buttons [value=left]")
        page.wait_for_function(
            "before => document.querySelector('[name=showing]')?.value !== before "
            "&& !document.body.classList.contains('sending')",
            arg=before,
        )
        if showing(page) is None:
            break
    page.goto(f"{server.url}/people")
    page.wait_for_selector("text=<img src=x onerror=alert(1)>")
    assert watcher.wrong == []
    assert len(votes(site)) >= len(payloads)


def test_links_begin_sessions_and_end_with_them(browser: Any, serve: Callable[..., Server], shared: Site):
    server = serve(shared)
    assert shared.database is not None
    page = browser.new_context().new_page()
    page.goto(f"{server.url}/vote")
    assert "Open the link that you were given" in page.inner_text("main")
    page.goto(f"{server.url}/enter/{add_voter(shared.database, 'Ada', 'voter')}")
    page.wait_for_selector("#ballot")
    assert "enter" not in page.url
    assert page.locator("nav a").all_inner_texts() == ["Vote"]
    page.click("text=Leave")
    page.wait_for_selector("text=The session has ended")


QUESTIONS = [
    ("Why is the sky blue?", "Because air scatters **short** wavelengths more than long ones: blue light reaches you "
     "from every direction, and red light mostly from where the Sun is.", "The sky is blue because it reflects the "
     "ocean."),
    ("How do I boil an egg?", "Put it into boiling water:\n\n- 6 minutes: soft\n- 9 minutes: firm\n\nThen into cold "
     "water.", "Boil it for a while until it is done."),
    ("Name three uses of a brick.", "1. Part of a wall\n2. Holding a door open\n3. Warming a bed, in a towel",
     "A brick is very versatile and can be used in many different situations in everyday life."),
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["1600", "390"])
def test_pages_fit_and_are_photographed(
    browser: Any, serve: Callable[..., Server], finished: Path, tmp_path: Path, size: dict[str, int], scheme: str
):
    ballot = Ballot(open_database(tmp_path / "contest" / VOTES))
    items = [make_item(QUESTION, [{"role": "user", "content": q}], a, b)[0] for q, a, b in QUESTIONS]
    ballot.ask(items, 2, 3)
    ballot.database.close()
    watched = Path(os.environ.get("SPARRING_WATCHED", finished))
    server = serve(open_site([watched, tmp_path / "contest"], str(tmp_path / "contest" / VOTES), tokens=False))
    page, watcher = entered(browser, server, viewport=size, color_scheme=scheme)
    folder = Path(os.environ.get("SPARRING_SCREENSHOTS", tmp_path))
    ending = f"{size['width']}{'-dark' if scheme == 'dark' else ''}.png"
    for name, path in (("vote", "/vote"), ("watch", "/run/0"), ("runs", "/"), ("people", "/people")):
        page.goto(server.url + path)
        page.wait_for_selector("h1")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name
        page.screenshot(path=folder / f"serve-{name}-{ending}")
        problems = accessibility(page)
        assert problems == [], name
    page.evaluate("document.body.style.zoom = 2")  # by the test; our pages may not
    assert watcher.wrong == []
