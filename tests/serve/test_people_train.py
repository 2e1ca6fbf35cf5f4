"""A run whose oracle is people: it waits for them, survives kills, and trains as if their votes had come by a file."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from sparring.models.identity import hash_weights
from sparring.oracles import people
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime import layout
from sparring.runtime.files import read_table
from sparring.runtime.progress import QUIET
from sparring.votes.ballot import Ballot
from sparring.votes.database import open_database
from sparring.votes.exports import exported
from sparring.votes.imports import import_votes
from sparring.votes.items import Showing
from sparring.votes.records import read_records
from vote_fakes import QUESTION, voter

FOLDER = layout.round_folder(0)
ANSWERS = re.compile(r'<div class="source text" dir="auto">(.*?)</div>', re.S)
SHORT = {"evaluation": {"samples": 1, "every_iterate": False}, "rounds": 1}


def with_people(recipe: dict[str, Any], database: Path | None = None, **fields: object) -> dict[str, Any]:
    asked = {"name": "people", **({"database": str(database)} if database else {}), **fields}
    return {**recipe, **SHORT, "oracle": asked}


def longer(showing: Showing) -> str:
    """What both simulated voters like; the first letter decides among equals, a few pairs are both bad."""
    left, right = showing.left, showing.right
    return "both_bad" if len(left + right) % 7 == 0 else "left" if (len(left), left) > (len(right), right) else "right"


def voting(database: Path, name: str, stop: threading.Event, verdict: Callable[[Showing], str]) -> threading.Thread:
    def go() -> None:
        while not database.exists():
            time.sleep(0.05)
        ballot = Ballot(open_database(database))
        who = voter(ballot.database, name)
        while not stop.is_set():
            if (showing := ballot.next_showing(who)) is None:
                time.sleep(0.02)
            else:
                ballot.vote(who, showing.id, verdict(showing), 1.0)
        ballot.database.close()

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def by_file(out: Path, recipe: dict[str, Any], tmp_path: Path) -> Path:
    """The same run with the votes of a file."""
    rows = exported(read_records(open_database(out / layout.VOTES)), "jsonl").rows
    database = tmp_path / "from-file.sqlite"
    import_votes(open_database(database), json.loads(json.dumps(rows)), QUESTION)
    fields = {key: value for key, value in recipe["oracle"].items() if key not in ("name", "database")}
    run(parse_recipe(with_people(recipe, database, **fields)), tmp_path / "by-file", QUIET)
    return tmp_path / "by-file"


def compare(out: Path, other: Path) -> None:
    for table in (FOLDER.verdicts, FOLDER.pairs):
        assert repr(read_table(out / table)) == repr(read_table(other / table))  # by repr: a win rate may be NaN
    assert hash_weights(out / FOLDER.policy) == hash_weights(other / FOLDER.policy)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(people, "GRACE_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("pairing", ["best_worst", "knockout"])
def test_votes_of_people_train_as_the_same_votes_of_a_file(tiny_recipe: dict[str, Any], tmp_path: Path, pairing: str):
    recipe = {**tiny_recipe, "algorithm": {**tiny_recipe["algorithm"], "pairing": pairing}}
    plain, out, stop = with_people(recipe), tmp_path / "run", threading.Event()
    threads = [voting(out / layout.VOTES, name, stop, longer) for name in ("Ada", "Bob")]
    try:
        summary = run(parse_recipe(plain), out, QUIET)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    records = read_records(open_database(out / layout.VOTES))
    assert {record.voter for record in records} == {"Ada", "Bob"}
    assert summary["headline"]["oracle"] == "people"
    facts = json.loads((out / layout.MANIFEST).read_text())[FOLDER.stage("judge")]["facts"]
    assert facts["failed"] == 0
    without = sum(row["preference"] is None for row in read_table(out / FOLDER.verdicts))
    assert facts.get("dropped", {}).get("both bad", 0) == without
    compare(out, by_file(out, plain, tmp_path))


def remote_voter(url: str, name: str, stop: threading.Event, stored: list[str], wrong: list[str]) -> None:
    """Votes by HTTP as a browser does: it sends a vote again until the server has it, under the same showing."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=10) as client:
        while not stop.is_set():
            try:
                page = client.get("/vote")
                fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
                if 'id="name"' in page.text:
                    client.post("/name", data={**fields, "name": name})
                elif "showing" not in fields:
                    time.sleep(0.2)
                else:
                    left, right = ANSWERS.findall(page.text)
                    verdict = "left" if (len(left), left) > (len(right), right) else "right"
                    vote = {**fields, "verdict": verdict, "seconds": "1"}
                    send(client, vote, stop)
                    stored.append(fields["showing"])
            except httpx.HTTPError:
                time.sleep(0.1)
            except Exception as error:
                wrong.append(repr(error))
                return


def send(client: Any, vote: dict[str, str], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            if client.post("/vote", data=vote).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)


def command(*words: object, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("ab") as stream:
        words = (sys.executable, "-m", "sparring", *words)
        return subprocess.Popen([str(word) for word in words], stdout=stream, stderr=stream, env=environment)


def waited(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.more
def test_server_and_run_are_killed_again_and_again(tiny_recipe: dict[str, Any], tmp_path: Path):
    plain, out, log = with_people(tiny_recipe), tmp_path / "run", tmp_path / "log"
    recipe = tmp_path / "people.yaml"
    recipe.write_text(yaml.safe_dump(plain))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = command("run", recipe, "--out", out, log=log)
    waited((out / layout.VOTES).exists, running, log)
    stop, stored, wrong = threading.Event(), list[str](), list[str]()
    voters = [
        threading.Thread(target=remote_voter, args=(f"http://127.0.0.1:{port}", name, stop, stored, wrong))
        for name in ("Ada", "Bob")
    ]
    for thread in voters:
        thread.start()
    kills, killed = int(os.environ.get("SPARRING_KILLS", "4")), 0
    try:
        for kill in range(kills):
            serving = command("serve", out, "--port", port, log=log)
            waited(lambda: answers(port), serving, log)
            before = len(stored)
            end = time.monotonic() + 10
            while len(stored) < before + 2 and time.monotonic() < end and running.poll() is None:
                time.sleep(0.02)
            serving.send_signal(signal.SIGKILL)
            serving.wait()
            killed += running.poll() is None
            if kill == 1 and running.poll() is None:
                running.send_signal(signal.SIGKILL)
                running.wait()
                running = command("run", recipe, "--out", out, log=log)
        serving = command("serve", out, "--port", port, log=log)
        assert running.wait(timeout=300) == 0, log.read_text()
    finally:
        stop.set()
        for thread in voters:
            thread.join()
        for process in (serving, running):
            process.terminate()
            process.wait()
    assert wrong == []
    assert killed >= kills / 2  # the others came after the run's end
    print(f"{killed} kills of the server while the run waited, {len(stored)} votes")
    records = read_records(open_database(out / layout.VOTES))
    assert {record.showing for record in records} >= set(stored)
    assert len(records) <= len(stored) + 2  # at the end a vote may be stored whose voter has not heard of it
    seen = [(record.item, record.voter, record.repeat) for record in records]
    assert len(seen) == len(set(seen))
    compare(out, by_file(out, plain, tmp_path))
