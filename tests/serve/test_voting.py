"""The Vote room without a script: what a page shows, what it hides, and what becomes of a vote."""

from __future__ import annotations

import re
import time
from html import unescape
from pathlib import Path

import pytest

from payloads import PAYLOADS
from sparring.runtime.layout import VOTES
from sparring.serve.site import Site, open_site
from sparring.serve.text import as_html, plain
from sparring.votes.ballot import Ballot
from sparring.votes.database import Database, Unavailable
from sparring.votes.items import make_item
from sparring.votes.records import read_records
from visitor import Visitor
from vote_fakes import voter


def database(site: Site) -> Database:
    assert site.database is not None
    return site.database


def test_a_vote_is_on_disk_when_the_next_pair_appears(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    first = visitor.fields()["showing"]
    page = visitor.vote("left")
    assert "1 by you" in page.text
    assert f'value="{first}"' not in page.text
    record = read_records(database(local))[0]
    assert (record.verdict, record.voter, record.seconds) == ("left", "Ada", 2.0)


def test_reloading_and_going_back_shows_the_same_pair_and_an_old_page_votes_once(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    old = visitor.fields()
    assert visitor.fields()["showing"] == old["showing"]
    visitor.vote("left")
    again = visitor.post("/vote", data={**old, "verdict": "left"})
    assert again.status_code == 200
    other = visitor.post("/vote", data={**old, "verdict": "right"})
    assert "Not stored: you voted on this pair in another tab" in other.text
    assert [record.verdict for record in read_records(database(local))] == ["left"]


def test_undo_without_a_script(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    text = re.search(r"question \d+", visitor.get("/vote").text)
    assert text
    visitor.vote("left")
    back = visitor.post("/undo", data=visitor.fields())
    assert "Taken back." in back.text
    assert text[0] in back.text
    assert [record.undone for record in read_records(database(local))] == [True]
    assert "Not taken back: there is no vote of yours" in visitor.post("/undo", data=visitor.fields()).text


def test_two_voters_share_the_work_and_come_to_an_end(local: Site):
    ada, bob = Visitor(local), Visitor(local)
    ada.begin()
    bob.begin("Bob")
    for _ in range(30):
        for visitor in (ada, bob):
            if "showing" in visitor.fields():
                visitor.vote("left")
    assert "All votes are in" in ada.get("/vote").text
    records = read_records(database(local))
    assert {record.voter for record in records} == {"Ada", "Bob"}
    first = [record.item for record in records if not record.repeat]
    assert len(set(first)) == 30
    assert len(first) <= 30 + 15  # every fifth or so goes to both


def test_a_page_tells_nothing_of_whose_answers_they_are(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    page = visitor.get("/vote", headers={"x-part": "1"}).text
    shown = re.sub(r"bad answer|good answer|aria-[a-z]+|seconds", "", page)
    for word in ("model", "policy", "round", "contest", "first", "second", "seat", "length", "words", "sqlite"):
        assert word not in shown, word


def test_seconds_that_cannot_be_are_not_kept_and_the_vote_is(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    for seconds in ("", "-1", "nan", "1e9"):
        assert visitor.vote("left", seconds=seconds).status_code == 200
    assert visitor.vote("left", seconds="soon").status_code == 400
    assert [record.seconds for record in read_records(database(local))] == [None] * 4


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_text_becomes_text(payload: str):
    begin = time.monotonic()
    html = str(as_html(payload))
    assert time.monotonic() - begin < 5
    tags = re.findall(r"<\s*/?\s*([a-zA-Z][^\s>/]*)([^>]*)>", html)
    allowed = {"p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "h4", "h5", "h6"}
    assert {name for name, _ in tags} <= allowed | {"table", "thead", "tbody", "tr", "th", "td"}
    assert all(not rest.strip() or (name == "ol" and rest.startswith(" start=")) for name, rest in tags)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", html)
    assert len(html) < 5_000_000


def test_what_a_model_wrote_can_be_read_in_full():
    assert as_html("**yes**, <b>no</b>") == "<p><strong>yes</strong>, &lt;b&gt;no&lt;/b&gt;</p>\n"
    assert as_html("one\ntwo") == "<p>one<br>\ntwo</p>\n"
    assert "https://example.org/x" in unescape(as_html("see [this](https://example.org/x)"))
    assert "800,000 more characters are not shown" in plain("x" * 1_000_000)


def test_a_page_with_every_payload_stays_whole(contest: Path):
    site = open_site([contest], None, tokens=False)
    ballot = Ballot(database(site))
    items = [
        make_item(payload, [{"role": payload[:50], "content": payload}], payload, "plain")[0] for payload in PAYLOADS
    ]
    ballot.ask(items, 1, 3, urgent=True)
    visitor = Visitor(site)
    visitor.begin()
    for _ in PAYLOADS:
        page = visitor.get("/vote")
        assert page.status_code == 200
        assert page.text.count("<script") == 1
        assert page.text.count("<form") == 3
        assert page.text.count("</main>") == 1
        assert visitor.vote("left").status_code == 200
    assert ballot.votes_of(voter(ballot.database)) >= len(PAYLOADS)
    ballot.database.close()


def test_a_database_that_is_away_is_said_and_no_verdict(local: Site, monkeypatch: pytest.MonkeyPatch):
    visitor = Visitor(local)
    visitor.begin()
    fields = visitor.fields()

    def down(*_: object) -> None:
        raise Unavailable("the database of votes does not answer: disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Ballot, "vote", down)
        answer = visitor.post("/vote", data={**fields, "verdict": "left"})
    assert answer.status_code == 503
    assert "Nothing was stored" in answer.text
    assert read_records(database(local)) == []
    assert visitor.post("/vote", data={**fields, "verdict": "left"}).status_code == 200


def test_an_ended_session_and_no_people_are_said(local: Site, finished: Path):
    visitor = Visitor(local)
    assert "Who votes?" in visitor.get("/vote").text
    assert visitor.post("/name", data={**visitor.fields(), "name": " "}).status_code == 400
    answer = visitor.post("/vote", data={**visitor.fields(), "verdict": "left"})
    assert answer.status_code == 401
    assert "Load the page again" in answer.text
    none = Visitor(open_site([finished], None, tokens=False))
    assert "No run here asks people" in none.get("/vote").text
    assert none.get("/people").status_code == 404
    assert not (finished / VOTES).exists()


def test_the_next_pair_comes_ahead_unless_few_are_left(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    first = visitor.fields()["showing"]
    ahead = visitor.get("/vote/next", params={"after": first}, headers={"x-part": "1"})
    assert 'id="ballot"' in ahead.text
    assert f'value="{first}"' not in ahead.text
    assert visitor.fields()["showing"] == first
    page = visitor.post("/vote", data={**visitor.fields(), "verdict": "left"}, headers={"x-part": "1"})
    showing = re.findall(r'name="showing" value="([^"]+)"', page.text)
    assert showing[0] in ahead.text
    for _ in range(12):
        visitor.vote("left")
    time.sleep(1.1)  # the standing is a second old at most
    assert visitor.get("/vote/next", params={"after": visitor.fields()["showing"]}).status_code == 204
