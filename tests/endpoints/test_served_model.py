"""Teachers and opponents behind a local server that fails on demand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from faulty_server import Faulty, completion, serving
from sparring.endpoints import endpoint
from sparring.endpoints.replies import Reply
from sparring.endpoints.served_model import ServedModel, as_response
from sparring.models.chat import Chat
from sparring.models.messages import as_messages
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import ServedConfig
from sparring.rounds.run import run
from sparring.rounds.status import read_status
from sparring.runtime.errors import EngineError
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress
from sparring.sampling.engine import Response

KEY = "sk-secret-987"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoint, "BACKOFF", 0.01)
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with serving() as faulty:
        faulty.answer = lambda request: completion(f"{request['messages'][-1]['content']} {request['seed'] % 97}")
        yield faulty


def section(server: Faulty, **fields: Any) -> dict[str, Any]:
    given = {"model": "big", "base_url": server.url, "key_env": "TEACHER_KEY", "timeout": 0.5, "attempts": 3}
    return {**given, "concurrency": 2, **fields}


def ask(server: Faulty, path: Path, count: int = 3, **fields: Any) -> list[Reply | None]:
    served = ServedModel(ServedConfig(**section(server, **fields)), "data.teacher", path)
    return served.answers([[{"role": "user", "content": f"Q{i}"}] for i in range(count)], list(range(count)))


def test_every_prompt_is_asked_once_and_kept(server: Faulty, tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    found = ask(server, path, 40, system="Be brief.", top_p=0.9, extra={"top_k": 5})
    assert [reply and reply.text for reply in found] == [f"Q{i} {i}" for i in range(40)]
    assert ask(server, path, 40, system="Be brief.", top_p=0.9, extra={"top_k": 5}) == found
    assert len(server.requests) == 40
    request = server.requests[0]
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (request["model"], request["top_p"], request["top_k"]) == ("big", 0.9, 5)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in path.read_text()


def test_a_reasoning_model_is_asked_in_its_own_terms(server: Faulty, tmp_path: Path) -> None:
    ask(server, tmp_path / "replies.jsonl", 1, reasoning=True, max_tokens=900)
    assert server.requests[0].keys() == {"model", "messages", "max_completion_tokens", "seed"}
    assert server.requests[0]["max_completion_tokens"] == 900


def test_outages_are_waited_out_and_one_lost_prompt_is_none(server: Faulty, tmp_path: Path) -> None:
    server.faults = [(503, {}, "down"), (429, {"retry-after": "0"}, "slow"), (200, {}, "hang"), completion(None)]
    assert None not in ask(server, tmp_path / "a", concurrency=1, attempts=5)
    server.faults = [(400, {}, {"error": {"message": "too long"}})]
    found = ask(server, tmp_path / "b", concurrency=1)
    assert [reply is None for reply in found] == [True, False, False]


def test_what_cannot_pass_stops_with_the_field(server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.faults = [(401, {}, {"error": {"message": f"bad key {KEY}"}})]
    with pytest.raises(EngineError, match=r"refused.*data\.teacher\.model") as caught:
        ask(server, tmp_path / "a", concurrency=1)
    assert KEY not in str(caught.value)
    with pytest.raises(ValueError, match=r"data\.teacher\.base_url"):
        ask(server, tmp_path / "a", base_url="nonsense")
    with pytest.raises(ValueError, match=r"data\.teacher\.max_cost needs data\.teacher\.price_in"):
        ask(server, tmp_path / "a", max_cost=1.0)
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(ValueError, match=r"data\.teacher\.key_env: the environment variable TEACHER_KEY is not set"):
        ask(server, tmp_path / "a")


def test_a_reply_as_our_tokens(tokenizer: Any) -> None:
    chat = Chat(tokenizer)
    whole, cut = (as_response(Reply("ab", cut), chat, as_messages("Hi")) for cut in (False, True))
    assert whole == Response([*cut.token_ids, chat.end_id], "stop")
    assert cut.finish_reason == "length"


# ---- in a run -------------------------------------------------------------------------------------


def without_gold(plain: dict[str, Any]) -> None:
    path = Path(plain["data"]["train"]["path"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))


@pytest.fixture
def taught(tiny_recipe: dict[str, Any], server: Faulty) -> dict[str, Any]:
    """SPIN on prompts alone, with a teacher and an opponent."""
    without_gold(tiny_recipe)
    evaluation = {"every_iterate": False, "samples": 2, "bootstrap": 100}
    evaluation["opponents"] = [{"name": "rival", **section(server)}]
    data = {**tiny_recipe["data"], "teacher": section(server)}
    return {**tiny_recipe, "data": data, "algorithm": {"name": "spin"}, "evaluation": evaluation, "rounds": 1}


def test_a_run_learns_from_a_teacher_and_plays_an_opponent(
    taught: dict[str, Any], server: Faulty, tmp_path: Path
) -> None:
    server.faults = [completion("too lo", finish="length"), (400, {}, {"error": {"message": "filtered"}})]
    plain = {**taught, "data": {**taught["data"], "teacher": section(server, concurrency=1)}}
    out = tmp_path / "run"
    summary = run(parse_recipe(plain), out, Progress(quiet=True))
    manifest = json.loads((out / "manifest.json").read_text())
    dropped = {"the teacher's answer was cut off at max_tokens": 1, "the teacher gave no answer": 1}
    assert manifest["teacher"]["facts"]["dropped"] == summary["dropped"]["teacher"] == dropped
    pairs = read_table(out / "rounds/000/pairs.parquet")
    assert len(pairs) == 4
    assert {r["role"] for row in pairs for r in row["responses"]} == {"gold", "own"}
    (judged,) = summary["opponents"]
    assert judged["name"] == "rival"
    assert 0 <= judged["final"]["win_rate"].value <= 1
    rows = read_table(out / "evaluation/opponent-rival.parquet")
    assert len(rows) == 6
    assert "against rival" in (out / "report.html").read_text()
    asked = len(server.requests)
    assert run(parse_recipe(plain), out, Progress(quiet=True)) == summary
    assert len(server.requests) == asked


def test_a_run_whose_server_goes_down_goes_on_where_it_was(
    taught: dict[str, Any], server: Faulty, tmp_path: Path
) -> None:
    plain = {**taught, "data": {**taught["data"], "teacher": section(server, concurrency=1)}}
    server.faults = [completion("one \ud83d"), completion("two"), (401, {}, "no")]  # a cut emoji stops no run
    with pytest.raises(EngineError, match=r"is kept"):
        run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    assert len(server.requests) == 3
    run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    texts = [r["responses"][0]["text"] for r in read_table(tmp_path / "run/teacher/train.parquet")]
    assert texts[:2] == ["one \ufffd", "two"]
    assert len(texts) == 6


def refusing(server: Faulty, refused: int) -> None:
    """Have the server's filter refuse the first prompts that it meets, however often they are asked."""
    plain, met = server.answer, dict[str, int]()

    def answer(request: dict[str, Any]) -> Any:
        number = met.setdefault(request["messages"][-1]["content"], len(met))
        flagged = 400, {}, {"error": {"code": "content_filter", "message": "flagged by the content filter"}}
        return flagged if number < refused else plain(request)

    server.answer = answer


def test_a_prompt_that_an_opponent_refuses_is_left_out_and_counted(
    taught: dict[str, Any], server: Faulty, tmp_path: Path
) -> None:
    plain = {**taught, "algorithm": {"name": "inpo", "samples": 2}, "data": {**taught["data"], "teacher": None}}
    refusing(server, 1)
    summary = run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    (judged,) = summary["opponents"]
    assert judged["refused"] == 1
    assert judged["final"]["failed"] == 0
    assert len(read_table(tmp_path / "run/evaluation/opponent-rival.parquet")) == 4
    assert "prompts that its server refuses" in (tmp_path / "run/report.html").read_text()
    stage = next(one for one in read_status(tmp_path / "run").stages if one.name == "evaluation/ask-rival")
    assert stage.left_out == "dropped prompts 1: its server refuses the prompt"
    (tmp_path / "run/evaluation/opponent-rival.parquet").unlink()
    (tmp_path / "run/cache/evaluation.opponents.rival.jsonl").unlink()
    refusing(server, 2)
    with pytest.raises(EngineError, match=r"rival: its server refuses 2 of 3 held-out prompts"):
        run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))


def test_an_opponent_that_gives_no_answer_is_not_played(taught: dict[str, Any], server: Faulty, tmp_path: Path) -> None:
    plain = {**taught, "algorithm": {"name": "inpo", "samples": 2}, "data": {**taught["data"], "teacher": None}}
    server.answer = lambda request: completion("" if "Say gnu" in str(request["messages"]) else "x")
    with pytest.raises(EngineError, match=r"evaluation\.opponents\.rival: 2 of 6 requests got no answer.*are kept"):
        run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))


def test_what_a_url_cannot_be(taught: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"sampling\.engine: 'openai' would be a server with weights of its own"):
        parse_recipe({**taught, "sampling": {"engine": "openai"}})
    with pytest.raises(ValueError, match=r"data\.teacher answers in place of gold, but algorithm 'inpo'"):
        parse_recipe({**taught, "algorithm": {"name": "inpo"}})
    twice = {**taught["evaluation"], "opponents": taught["evaluation"]["opponents"] * 2}
    with pytest.raises(ValueError, match=r"not all different"):
        parse_recipe({**taught, "evaluation": twice})
