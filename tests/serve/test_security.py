"""Nobody reads or votes who may not, and no page does what a stranger wrote into it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markupsafe import escape
from starlette.exceptions import HTTPException

from sparring.serve import managing, security, templates, trying, voting, watching
from sparring.serve.security import Pace
from sparring.serve.site import Site
from sparring.serve.starting import _bound, welcome
from sparring.votes.people import Role, add_voter, all_voters, by_token, named_voter, revoke
from sparring.votes.records import read_records
from visitor import LOCAL, Visitor

PAGES = ["/", "/run/0", "/run/0/report", "/vote", "/vote/next", "/try", "/try/made-up", "/people"]
POSTS = [
    "/vote",
    "/undo",
    "/try",
    "/try/made-up/say",
    "/try/made-up/stop",
    "/try/made-up/prefer",
    "/people",
    "/people/revoke",
]
INLINE = r"<script(?! src=\"/static/)|<style|\son\w+=|\sstyle=|javascript:|https?://"
THERE = "http://votes.example:8765"


def entered(site: Site, name: str, role: Role) -> Visitor:
    assert site.database is not None
    visitor = Visitor(site, THERE)
    assert visitor.get(f"/enter/{add_voter(site.database, name, role)}").status_code == 200
    return visitor


@pytest.mark.parametrize("page", PAGES)
def test_with_host_a_stranger_reads_nothing(shared: Site, page: str):
    answer = Visitor(shared, THERE).get(page)
    assert answer.status_code == 401
    assert "question" not in answer.text
    assert "Open the link" in answer.text


@pytest.mark.parametrize("page", POSTS)
def test_with_host_a_stranger_posts_nothing(shared: Site, page: str):
    visitor = Visitor(shared, THERE)
    assert visitor.post(page, data={"verdict": "left", "name": "Eve", "role": "owner"}).status_code in (401, 403)
    assert visitor.post("/name", data={**visitor.fields("/"), "name": "Eve"}).status_code == 403
    assert shared.database is not None
    assert read_records(shared.database) == []
    assert all_voters(shared.database) == []


def test_unknown_tokens_are_refused_in_a_sentence_and_only_some_a_minute(shared: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(voting, "ENTRIES", Pace(3, 60.0))
    visitor = Visitor(shared, THERE)
    answers = [visitor.get("/enter/guess") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert "This link is not known" in answers[0].text
    assert "Wait" in answers[-1].text


@pytest.mark.parametrize(
    ("role", "may"),
    [("viewer", {"/", "/run/0"}), ("voter", {"/vote"}), ("owner", {"/", "/run/0", "/vote", "/people"})],
)
def test_each_role_sees_its_own_rooms(shared: Site, role: Role, may: set[str]):
    visitor = entered(shared, "Ada", role)
    for page in ("/", "/run/0", "/vote", "/people"):
        answer = visitor.get(page, follow_redirects=False)
        expected = {200} if page in may else {303, 403}
        assert answer.status_code in expected, page
    if role != "owner":
        assert visitor.post("/people", data={"name": "Eve", "role": "owner"}).status_code == 403
    if role == "viewer":
        assert visitor.post("/vote", data={"verdict": "left"}).status_code == 403


def test_a_revoked_link_ends_its_sessions_at_once(shared: Site):
    visitor = entered(shared, "Ada", "voter")
    assert visitor.get("/vote").status_code == 200
    assert shared.database is not None
    revoke(shared.database, "Ada")
    assert visitor.get("/vote").status_code == 401
    add_voter(shared.database, "Ada", "voter")  # a new link is another session
    assert visitor.get("/vote").status_code == 401


def test_a_post_without_this_sessions_token_stores_nothing(local: Site):
    ada, eve = Visitor(local), Visitor(local)
    ada.begin()
    eve.begin("Eve")
    foreign = {**ada.fields(), "csrf": eve.fields()["csrf"]}
    for fields in (foreign, {**foreign, "csrf": ""}, {k: v for k, v in foreign.items() if k != "csrf"}):
        answer = ada.post("/vote", data={**fields, "verdict": "left"})
        assert answer.status_code == 403
        assert "nothing was stored" in answer.text
    assert local.database is not None
    assert read_records(local.database) == []


def test_a_session_begins_anew_on_entering_and_cannot_be_forged(shared: Site):
    assert shared.database is not None
    visitor = Visitor(shared, THERE)
    visitor.get("/vote")
    before = visitor.cookies.get("sparring")
    token = add_voter(shared.database, "Ada", "voter")
    cookie = visitor.get(f"/enter/{token}", follow_redirects=False).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert visitor.cookies.get("sparring") != before
    csrf = visitor.fields()["csrf"]
    thief = Visitor(shared, THERE)
    thief.cookies.set("sparring", before or "")  # what was fixed before is nobody's
    assert thief.get("/vote").status_code == 401
    thief.cookies.set("sparring", (visitor.cookies.get("sparring") or "").replace(".", "x.", 1))
    assert thief.get("/vote").status_code == 401
    visitor.post("/leave", data={"csrf": csrf})
    assert visitor.get("/vote").status_code == 401


def test_every_answer_has_the_headers_and_no_page_a_script_or_style_of_its_own(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    for page in (*PAGES, "/missing", "/static/serve.js", "/static/page.css"):
        answer = visitor.get(page)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        if answer.headers["content-type"].startswith("text/html"):
            assert not re.search(
                r"<script(?! src=\"/static/)|<style|\son\w+=|\sstyle=|javascript:|https?://", answer.text
            )


def test_a_foreign_name_of_this_machine_is_refused_without_host(local: Site):
    answer = Visitor(local, "http://attacker.example:8765").get("/vote")
    assert answer.status_code == 421
    assert "its own machine only" in answer.text
    for name in ("http://localhost:8765", "http://127.0.0.1", "http://[::1]:8765"):
        assert Visitor(local, name).get("/vote").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../site.py",
        "/static/..%2fsite.py",
        "/static/%2e%2e%2f%2e%2e%2fcli%2fmain.py",
        "/static//etc/passwd",
        "/static/run.html",
        "/run/../../etc/passwd",
        "/run/99",
        "/run/-1",
        "/run/0/report/../../manifest.json",
    ],
)
def test_no_path_leaves_the_few_files_that_are_sent(local: Site, path: str):
    answer = Visitor(local).get(path)
    assert answer.status_code in (404, 405)
    assert "root:" not in answer.text
    assert "There is no such" in answer.text


def test_votes_come_at_a_human_pace(local: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(voting, "VOTES", Pace(3, 60.0))
    visitor = Visitor(local)
    visitor.begin()
    answers = [visitor.vote("left") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"]
    assert local.database is not None
    assert len(read_records(local.database)) == 3


def test_pace_forgets_what_is_long_ago_and_whom_it_has_not_seen(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(security.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(security, "KEYS", 2)
    pace = Pace(1, 10.0)
    pace.check("a")
    with pytest.raises(HTTPException):
        pace.check("a")
    now[0] = 11.0
    pace.check("a")
    pace.check("b")
    pace.check("c")
    assert len(pace._times) == 2


@pytest.mark.parametrize("size", [140_000, 5_000_000])
def test_forms_that_are_too_long_are_not_read(local: Site, size: int):
    visitor = Visitor(local)
    visitor.begin()
    assert visitor.vote("left", seconds="9" * size).status_code == 413


def test_what_is_no_form_is_refused(local: Site):
    visitor = Visitor(local)
    visitor.begin()
    assert visitor.post("/vote", content=b"\xff\xfe").status_code == 400
    assert visitor.post("/vote", content="&".join(f"f{i}=1" for i in range(50))).status_code == 400
    assert visitor.vote("best").status_code == 400


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "Ada & Bob"]
)
def test_names_are_text(local: Site, name: str):
    visitor = Visitor(local)
    visitor.begin(name)
    visitor.vote("left")
    for page in ("/vote", "/people"):
        assert escape(name) in visitor.get(page).text


def test_an_owner_lets_people_in_and_out(shared: Site):
    owner = entered(shared, "Ada", "owner")
    csrf = owner.fields("/people")["csrf"]
    page = owner.post("/people", data={"csrf": csrf, "name": "Bob", "role": "voter"}).text
    found = re.search(r"/enter/([\w-]+)", page)
    assert found
    assert shared.database is not None
    bob = by_token(shared.database, found[1])
    assert bob is not None
    assert (bob.name, bob.role) == ("Bob", "voter")
    assert found[1] not in owner.get("/people").text
    assert owner.post("/people", data={"csrf": csrf, "name": "Bob", "role": "voter"}).status_code == 400
    assert owner.post("/people", data={"csrf": csrf, "name": "Eve", "role": "king"}).status_code == 400
    assert owner.post("/people/revoke", data={"csrf": csrf, "name": "Bob"}).status_code == 200
    assert by_token(shared.database, found[1]) is None


def test_a_name_alone_is_no_way_in_where_links_are_needed(shared: Site):
    assert shared.database is not None
    ghost = named_voter(shared.database, "Ghost", "owner")
    visitor = entered(shared, "Ada", "voter")
    assert not ghost.has_link
    assert visitor.post("/name", data={**visitor.fields(), "name": "Ghost"}).status_code == 403


def test_the_server_listens_to_this_machine_and_a_taken_port_is_said(local: Site, shared: Site):
    with _bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert listening.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ValueError, match=rf"--port {port} is taken"):
            _bound("127.0.0.1", port)
    with pytest.raises(ValueError, match="no such address"):
        _bound("203.0.113.77", 0)
    assert "this machine only" in welcome(local, LOCAL, False)[0]
    lines = welcome(shared, THERE, False)
    assert any("/enter/" in line for line in lines)
    assert any("everybody on the network can read" in line for line in lines)
    assert not any("/enter/" in line for line in welcome(shared, THERE, True))


def test_all_routes_are_known_to_these_tests():
    routes = [route.path for part in (watching, voting, trying, managing, templates) for route in part.ROUTES]
    known = {
        "/",
        "/run/{number:int}",
        "/run/{number:int}/report",
        "/vote",
        "/vote/next",
        "/undo",
        "/try",
        "/try/{talk}",
        "/try/{talk}/say",
        "/try/{talk}/stop",
        "/try/{talk}/prefer",
        "/name",
        "/enter/{token}",
        "/leave",
    }
    assert set(routes) == known | {"/people", "/people/revoke", "/static/{name}"}


def test_nothing_is_fetched_from_elsewhere():
    for path in Path(templates.PAGES).iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|@import", text), path
