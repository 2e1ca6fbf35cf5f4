"""The Watch room: running, stopped, finished, half-written and deleted folders, read and never written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import sparring
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime import layout
from sparring.runtime.locks import take
from sparring.runtime.progress import QUIET
from sparring.serve import watch
from sparring.serve.site import open_site, vote_places
from sparring.serve.watch import Watched
from visitor import Visitor


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", -1.0)


def contents(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_finished_run_shows_its_result_first_and_nothing_is_written(finished: Path):
    before = contents(finished)
    visitor = Visitor(open_site([finished], None, tokens=False))
    page = visitor.get("/").text
    assert page.index("The final policy wins") < page.index("1 round of inpo") < page.index("The fit")
    for words in ("Samples", "Say yak", "Stages", "The whole report", "Loss"):
        assert words in page
    assert contents(finished) == before
    report = visitor.get("/run/0/report")
    assert "run report" in report.text
    assert "sandbox" in report.headers["content-security-policy"]


def test_a_page_that_has_not_changed_is_not_sent_again(finished: Path):
    visitor = Visitor(open_site([finished], None, tokens=False))
    first = visitor.get("/", headers={"x-part": "1"})
    assert "<html" not in first.text
    again = visitor.get("/", headers={"x-part": "1", "if-none-match": first.headers["etag"]})
    assert (again.status_code, again.text) == (304, "")


def test_a_stopped_run_says_what_comes_next_and_a_running_one_what_it_does(finished: Path):
    manifest = json.loads((finished / layout.MANIFEST).read_text())
    kept = {key: entry for key, entry in manifest.items() if not layout.in_evaluation(key)}
    fit = layout.round_folder(0).stage("fit")
    del kept[fit]
    (finished / layout.MANIFEST).write_text(json.dumps(kept))
    seen = Watched(finished).look()
    assert (seen.state, seen.lead) == ("stopped", "")
    assert "0 of 1 round of inpo fitted" in seen.sentence
    assert "Next: round 1/1  fit." in seen.sentence
    assert seen.samples_of == "what round 1 trains on"
    with (finished / layout.RUN_LOCK).open("w") as handle:
        take(handle.fileno(), finished)
        row = {"doing": "round 1/1  fit", "done": 2, "total": 8, "note": "loss 0.3", "began": 0.0, "at": 0.0}
        (finished / layout.PROGRESS).write_text(json.dumps(row))
        seen = Watched(finished).look()
    assert seen.state == "running"
    assert seen.task is not None
    assert (seen.task.doing, seen.task.done, seen.task.total, seen.task.note) == ("round 1/1  fit", 2, 8, "loss 0.3")


def test_a_fit_that_goes_on_has_its_curve(finished: Path):
    folder = layout.round_folder(0)
    steps = finished / folder.fit_steps
    steps.parent.mkdir()
    rows = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3, 2, 3, 4)]  # resumed after step 1
    steps.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 5, "lo')
    (finished / folder.fit_log).unlink()
    assert [row["step"] for row in watch._rows(steps)] == [1, 2, 3, 4]
    figures = Watched(finished).look().curves
    assert figures[0].panel.title == "Loss"
    assert "loss from 1 to 0.25" in figures[0].svg


def test_a_run_that_is_deleted_while_watched_is_said_and_the_others_stay(finished: Path, contest: Path):
    site = open_site([finished, contest], None, tokens=False)
    visitor = Visitor(site)
    assert "2 folders" in visitor.get("/").text
    shutil.rmtree(finished)
    page = visitor.get("/").text
    assert "is gone: it was moved or deleted" in page
    assert "A comparison of policies" in page
    assert visitor.get("/run/0").status_code == 200
    assert visitor.get("/run/0/report").status_code == 404


@pytest.mark.parametrize("text", ['{"half": ', "[]", "5", '{"step": null}'])
@pytest.mark.parametrize("file", [layout.MANIFEST, layout.SUMMARY, "evaluation/policy-1.json"])
def test_a_damaged_file_is_a_sentence(finished: Path, file: str, text: str):
    visitor = Visitor(open_site([finished], None, tokens=False))
    (finished / file).write_text(text)
    answer = visitor.get("/")
    assert answer.status_code == 200
    assert "cannot be read now" in answer.text


@pytest.mark.parametrize("line", ["5", '{"step": null}', '{"half'])
def test_a_damaged_step_of_a_fit_leaves_the_others(finished: Path, line: str):
    fit = next(finished.glob("rounds/000/fit*.jsonl"))
    before = Watched(finished).look().curves
    with fit.open("a") as stream:
        stream.write(f"{line}\n")
    assert [curve.svg for curve in Watched(finished).look().curves] == [curve.svg for curve in before]


def test_a_database_of_votes_that_is_gone_takes_no_run_away(finished: Path, contest: Path):
    site = open_site([finished, contest], None, tokens=False)
    assert site.database is not None
    visitor = Visitor(site)
    visitor.begin("Ada")
    shutil.move(site.database.place, f"{site.database.place}.away")
    assert visitor.get("/vote").status_code == 503, "who votes is told to try again, and not that the session has ended"
    assert "The final policy wins" in visitor.get("/run/0").text
    assert "cannot be read now" in visitor.get("/").text


def test_a_run_records_what_it_does(tiny_recipe: dict[str, Any], tmp_path: Path):
    out = tmp_path / "run"
    run(parse_recipe({**tiny_recipe, "rounds": 1}), out, QUIET)
    row = json.loads((out / layout.PROGRESS).read_text())
    assert row.keys() == {"doing", "done", "total", "note", "before", "began", "at"}
    assert row["doing"].startswith("evaluation")
    assert row["done"] == row["total"]


def test_where_votes_lie_is_read_from_the_recipe(tiny_recipe: dict[str, Any], finished: Path, contest: Path):
    recipe = yaml.safe_load((finished / layout.RECIPE).read_text())
    asked = {"name": "jury", "members": [{"name": "people"}, {"name": "people", "database": "team.sqlite"}]}
    (finished / layout.RECIPE).write_text(yaml.safe_dump({**recipe, "oracle": asked}))
    assert list(vote_places(finished)) == [str(finished / layout.VOTES), "team.sqlite"]
    with pytest.raises(ValueError, match="keep their votes in different places"):
        open_site([finished, contest], None, tokens=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "is no run's folder"),
        (["{run}", "--certificate", "x.pem"], "--certificate and --key belong together"),
        (["{run}", "--votes", "mysql://x/y"], "'mysql' is no database"),
        (["{run}", "--host", "203.0.113.77", "--port", "0"], "no such address"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(finished: Path, words: list[str], said: str):
    outcome = sparring("serve", *[word.format(run=finished) for word in words])
    assert outcome.code == 2
    assert said in outcome.err


def test_the_verbs_of_votes(contest: Path, tmp_path: Path):
    added = sparring("votes", "add", contest, "Ada", "--address", "https://votes.example")
    assert added.out.startswith("Ada: https://votes.example/enter/")
    assert sparring("votes", "add", contest, "Ada").code == 2
    assert sparring("votes", "revoke", contest, "Ada").code == 0
    site = open_site([contest], None, tokens=False)
    visitor = Visitor(site)
    visitor.begin("Bob")
    visitor.vote("left")
    visitor.vote("tie")
    file = tmp_path / "votes.jsonl"
    assert sparring("votes", "export", contest, "--out", file).out == f"{file}: 2 rows\n"
    shown = sparring("votes", "agreement", contest).out
    assert "2 votes of 1 person; agreement between people: not known yet" in shown
    assert "Bob" in shown
    stored = sparring("votes", "import", file, tmp_path / "new.sqlite")
    assert (stored.code, stored.out) == (0, "2 votes stored, 0 were there already\n")
    assert "0 votes stored, 2 were there already" in sparring("votes", "import", file, tmp_path / "new.sqlite").out
    assert json.loads(sparring("votes", "agreement", tmp_path / "new.sqlite", "--json").out)["votes"] == 2
    assert sparring("votes", "export", tmp_path / "none.sqlite", "--out", file).code == 2
