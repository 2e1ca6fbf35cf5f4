"""What a run records of served models: calls, tokens and cost, through kills, other runs' files and odd servers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("openai")

from command import sparring
from faulty_server import completion, serving
from sparring.endpoints import endpoint as endpoint_module
from sparring.endpoints.endpoint import Endpoint
from sparring.endpoints.usage import UsageFile, UsageJournal, Used, in_words, recording
from sparring.oracles.build import build_oracle
from sparring.oracles.oracle import Comparison
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import EndpointConfig
from sparring.rounds.run import run
from sparring.runtime.errors import OracleError
from sparring.runtime.layout import REPORT, SUMMARY, USAGE, VERDICT_CACHE
from sparring.runtime.progress import QUIET

PRICES = {"price_in": 2.0, "price_out": 10.0}
ONE = (100 * 2 + 10 * 10) / 1e6
"""cost of a call of the fake server: 100 tokens in, 10 out"""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(endpoint_module, "BACKOFF", 0.01)
    with serving() as faulty:
        yield faulty


def endpoint(server, tmp_path: Path, **fields) -> Endpoint:
    given = {"model": "m", "base_url": server.url, "key_env": None, "timeout": 0.3, "attempts": 2, "concurrency": 1}
    return Endpoint(EndpointConfig(**{**given, **fields}), "oracle", tmp_path / "replies.jsonl")


def requests(*texts: str) -> list[dict]:
    return [{"messages": [{"role": "user", "content": text}], "max_tokens": 4} for text in texts]


def sums(path: Path) -> Used:
    (used,) = UsageFile(path).read()
    return used


def test_calls_tokens_and_cost_are_those_of_the_server(server, tmp_path):
    path = tmp_path / "run" / "usage.jsonl"
    with recording(path):
        asked = endpoint(server, tmp_path, **PRICES)
        assert not path.exists()
        asked.ask(requests("a", "b", "a"))
        asked.ask(requests("a", "c"))  # this run has paid for a
    asked.ask(requests("d"))  # outside of the run
    used = sums(path)
    assert (used.calls, used.tokens_in, used.tokens_out, used.from_files, used.uncounted) == (3, 300, 30, 0, 0)
    assert used.cost == pytest.approx(3 * ONE)
    assert in_words(used) == f"m@{server.url}/: 3 calls, 300 tokens in, 30 out, cost 0.0009"


def test_replies_of_another_run_cost_nothing_and_count_once_each_over_all_starts(server, tmp_path):
    endpoint(server, tmp_path).ask(requests("a", "b"))
    for _ in range(2):
        with recording(tmp_path / "usage.jsonl"):
            asked = endpoint(server, tmp_path, **PRICES)
            asked.ask(requests("a", "b", "c"))
            asked.ask(requests("b"))
    used = sums(tmp_path / "usage.jsonl")
    assert (used.calls, used.from_files) == (1, 2)
    assert in_words(used).endswith(": 1 call, 100 tokens in, 10 out, cost 0.0003; 2 answers from files, at no cost")


UNKNOWN = {
    "no usage": ({**completion("A"), "usage": None}, 1, 0),
    "one count": ({**completion("A"), "usage": {"prompt_tokens": 7}}, 1, 7),
    "a word": ({**completion("A"), "usage": {"prompt_tokens": "7", "completion_tokens": True}}, 1, 0),
    "no answer in time": ((200, {}, "hang"), 2, 0),
    "no completion": ((200, {}, "<html>"), 2, 0),
    "half an answer": ((200, {"content-length": "500"}, "half"), 2, 0),
}


@pytest.mark.parametrize("form", UNKNOWN)
def test_tokens_that_the_server_does_not_say_are_unknown_and_not_guessed(server, tmp_path, form):
    reply, calls, tokens = UNKNOWN[form]
    server.answer = lambda request: reply
    with recording(tmp_path / "usage.jsonl"):
        endpoint(server, tmp_path, **PRICES).ask(requests("a"))
    used = sums(tmp_path / "usage.jsonl")
    assert (used.calls, used.uncounted, used.priced, used.cost) == (calls, calls, 0, 0)
    assert (used.tokens_in, used.tokens_out) == (tokens, 0)
    assert f"tokens of {calls} call" in in_words(used)
    assert "cost" not in in_words(used)


def test_a_server_that_is_not_there_was_not_called(server, tmp_path):
    server.url = "http://127.0.0.1:9/v1"
    with recording(tmp_path / "usage.jsonl"):
        endpoint(server, tmp_path).ask(requests("a"))
    assert not (tmp_path / "usage.jsonl").exists()


def test_empty_replies_are_calls_and_errors_are_none(server, tmp_path):
    server.faults = [completion(""), completion("A"), (500, {}, "down"), (429, {}, "slow"), completion("B")]
    with recording(tmp_path / "usage.jsonl"):
        endpoint(server, tmp_path).ask(requests("a"))
        endpoint(server, tmp_path, attempts=3).ask(requests("b"))
    used = sums(tmp_path / "usage.jsonl")
    assert (used.calls, used.tokens_in, used.priced) == (3, 300, 0)


def test_a_price_that_came_later_is_of_the_calls_since_then(server, tmp_path):
    for fields, text in (({}, "a"), (PRICES, "b")):
        with recording(tmp_path / "usage.jsonl"):
            endpoint(server, tmp_path, **fields).ask(requests(text))
    assert in_words(sums(tmp_path / "usage.jsonl")).endswith("200 tokens in, 20 out, cost 0.0003 for 1 of them")


def test_threads_lose_no_line_and_a_reader_that_follows_counts_each_once(tmp_path):
    path = tmp_path / "usage.jsonl"
    journal, reader = UsageJournal(path), UsageFile(path)
    seen = [0]

    def write(start: int) -> None:
        for i in range(start, start + 50):
            journal.call(f"{i:016d}", "m", 1, 1, 0.5)

    threads = [threading.Thread(target=write, args=(50 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen += [used.calls for used in reader.read()]
    assert seen == sorted(seen)
    (used,) = reader.read()
    assert (used.calls, used.cost, reader.damaged) == (200, 100.0, 0)
    assert reader.read()[0].calls == 200


def test_a_torn_line_is_passed_over_and_a_damaged_one_is_said(tmp_path):
    path = tmp_path / "usage.jsonl"
    journal = UsageJournal(path)
    for key in "abc":
        journal.call(key, "m", 1, 1)
    whole = path.read_text()
    path.write_text(whole[:-9])  # killed while it wrote the third
    assert sums(path).calls == 2
    assert path.read_text() == whole[:-9], "a reader writes nothing"
    assert UsageJournal(path).damage.endswith("What was asked then is missing in the sums.")
    UsageJournal(path).call("d", "m", 1, 1)
    path.write_text(path.read_text().replace('"tokens_in": 1', '"tokens_in": 9', 1))
    reader = UsageFile(path)
    assert reader.lines() == [
        "m: 2 calls, 2 tokens in, 2 out",
        "not counted: 2 lines of usage.jsonl that cannot be read",
    ]


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "usage.jsonl").write_text("my notes\n")
    with pytest.raises(ValueError, match="line 1: not what is kept here"), recording(tmp_path / "usage.jsonl"):
        pass
    assert (tmp_path / "usage.jsonl").read_text() == "my notes\n"


def test_verdicts_that_a_shared_file_saves_count_apart_and_the_runs_own_do_not(server, tmp_path):
    def judge(pairs: list[Comparison], name: str) -> None:
        inner = {"name": "llm_judge", "model": "m", "base_url": server.url, "key_env": None}
        section = {**inner, "replies": str(tmp_path / f"{name}.jsonl")}
        with recording(tmp_path / f"usage-{name}.jsonl"):
            shared = {"name": "cached", "path": str(tmp_path / "verdicts.jsonl"), "oracle": section}
            build_oracle(shared, "").judge(pairs)

    pairs = [Comparison("Say it", word, "no") for word in ("ant", "bee")]
    judge(pairs[:1], "first")
    judge(pairs[:1], "first")
    assert (sums(tmp_path / "usage-first.jsonl").calls, sums(tmp_path / "usage-first.jsonl").from_files) == (2, 0)
    for _ in range(2):
        judge(pairs, "second")
    assert (sums(tmp_path / "usage-second.jsonl").calls, sums(tmp_path / "usage-second.jsonl").from_files) == (2, 2)


# ---- whole runs ---------------------------------------------------------------------------------


def longer(request):
    """The judge's reply: the longer answer wins."""
    user = request["messages"][-1]["content"]
    first, second = (user.split(f"assistant {x}'s answer]\n")[1].split("\n[The end")[0] for x in "AB")
    return completion("A" if (len(first), first) > (len(second), second) else "B")


@pytest.fixture
def paid(tiny_recipe, server, tmp_path):
    """A recipe whose judge is behind the fake server."""
    server.answer = longer
    tiny_recipe["algorithm"]["samples"] = 2
    tiny_recipe["evaluation"]["samples"] = 1
    where = {"name": "llm_judge", "model": "m", "base_url": server.url, "key_env": None}
    judge = {**where, **PRICES, "timeout": 20, "concurrency": 2, "replies": str(tmp_path / "replies.jsonl")}
    return {**tiny_recipe, "rounds": 1, "oracle": judge}


def test_a_run_says_what_its_judge_had_on_every_page_and_its_results_are_the_same_bytes(paid, server, tmp_path):
    run(parse_recipe(paid), tmp_path / "run", QUIET)
    calls = len(server.requests)
    used = sums(tmp_path / "run" / USAGE)
    assert (used.calls, used.tokens_in, used.from_files) == (calls, 100 * calls, 0)
    line = f"m@{server.url}/: {calls} calls, {100 * calls:,} tokens in, {10 * calls} out, cost {calls * ONE:.2g}"
    assert line in " ".join(sparring("status", tmp_path / "run").out.split())
    told = json.loads(sparring("status", tmp_path / "run", "--json").out)["used"]
    assert (told[0]["model"], told[0]["calls"]) == (f"m@{server.url}/", calls)
    assert line in (tmp_path / "run" / REPORT).read_text()
    before = (tmp_path / "run" / USAGE).read_bytes()
    run(parse_recipe(paid), tmp_path / "run", QUIET)  # finished: nobody is asked
    assert (tmp_path / "run" / USAGE).read_bytes() == before

    run(parse_recipe(paid), tmp_path / "again", QUIET)
    assert len(server.requests) == calls
    again = sums(tmp_path / "again" / USAGE)
    assert (again.calls, again.cost, again.from_files) == (0, 0, calls)
    for name in ("rounds/000/verdicts.parquet", "rounds/000/pairs.parquet", VERDICT_CACHE):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    assert USAGE not in (tmp_path / "run" / "manifest.json").read_text()
    assert USAGE not in (tmp_path / "run" / SUMMARY).read_text()


def test_watch_shows_it_while_the_run_goes_on(paid, server, tmp_path, monkeypatch):
    pytest.importorskip("starlette")
    from sparring.serve import watch
    from sparring.serve.site import open_site
    from visitor import Visitor

    run(parse_recipe(paid), tmp_path / "run", QUIET)
    page = Visitor(open_site([tmp_path / "run"], None, tokens=False)).get("/").text
    assert "Served models" in page
    assert "cost 0.0" in page
    monkeypatch.setattr(watch, "LOOK_SECONDS", -1.0)
    watched = watch.Watched(tmp_path / "run")
    before = sums(tmp_path / "run" / USAGE).calls
    assert f" {before} calls, " in watched.look().used[0]
    UsageJournal(tmp_path / "run" / USAGE).call("later", f"m@{server.url}/", 5, 5)
    assert f" {before + 1} calls, {100 * before + 5:,} tokens in, " in watched.look().used[0]
    (tmp_path / "run" / USAGE).unlink()
    assert "Served models" not in Visitor(open_site([tmp_path / "run"], None, tokens=False)).get("/").text


def test_a_start_that_is_refused_leaves_a_folder_that_can_start(paid, server, tmp_path):
    server.answer = lambda request: completion("I cannot say.")
    code, _, said = started(paid, tmp_path)
    assert code != 0
    assert "no preference came" in said
    assert not (tmp_path / "run" / USAGE).exists()
    (tmp_path / "replies.jsonl").unlink()
    server.answer = longer
    assert started(paid, tmp_path)[0] == 0


def started(recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    return sparring("run", tmp_path / "recipe.yaml", "--out", tmp_path / "run")


def test_a_run_that_stops_and_goes_on_counts_every_call_once(paid, server, tmp_path):
    stop = (401, {}, {"error": {"message": "no"}})
    for at in (10, 16):
        server.answer = lambda request, at=at: stop if len(server.requests) > at else longer(request)
        with pytest.raises(OracleError, match="refused"):
            run(parse_recipe(paid), tmp_path / "run", QUIET)
    server.answer = longer
    run(parse_recipe(paid), tmp_path / "run", QUIET)
    used, replies = sums(tmp_path / "run" / USAGE), (tmp_path / "replies.jsonl").read_text().splitlines()
    assert (used.calls, used.tokens_in, used.from_files) == (len(replies), 100 * len(replies), 0)


SCRIPT = """
import sys
from pathlib import Path
from sparring.endpoints.endpoint import Endpoint
from sparring.endpoints.usage import recording
from sparring.recipe.sections import EndpointConfig

url, folder = sys.argv[1], Path(sys.argv[2])
config = EndpointConfig(model="m", base_url=url, key_env=None, concurrency=4)
with recording(folder / "usage.jsonl"):
    asked = [{"messages": [{"role": "user", "content": str(i)}], "max_tokens": 4} for i in range(300)]
    Endpoint(config, "oracle", folder / "replies.jsonl").ask(asked)
"""


def test_a_kill_loses_at_most_the_calls_under_way_and_none_counts_twice(server, tmp_path):
    def slowly(request):
        time.sleep(0.01)
        return completion("A")

    server.answer, command = slowly, [sys.executable, "-c", SCRIPT, server.url, str(tmp_path)]
    for at in (60, 160):
        with subprocess.Popen(command) as process:
            while len(server.requests) < at:
                assert process.poll() is None
                time.sleep(0.001)
            process.kill()
    with recording(tmp_path / "usage.jsonl"):
        endpoint(server, tmp_path, concurrency=4, timeout=9).ask(requests(*map(str, range(300))))
    used = sums(tmp_path / "usage.jsonl")
    assert 0 <= len(server.requests) - used.calls <= 2 * 4, "four calls are under way at a kill"
    assert used.tokens_in == 100 * used.calls
    assert used.from_files == 0, "they were this run's own"
    rows = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines() if line.endswith("}")]
    assert len({row["key"] for row in rows}) == 300
    assert used.calls >= 300
