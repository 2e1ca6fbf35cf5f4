"""vLLM's parent against a child that only speaks its language; `test_vllm_real.py` has the real one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fake_vllm_child as fake
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import SamplingConfig, VllmConfig
from sparring.rounds import engines
from sparring.rounds.run import run
from sparring.rounds.sample import _streamed
from sparring.runtime.errors import EngineError
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress
from sparring.sampling import vllm_process
from sparring.sampling.engine import Request, Response
from sparring.sampling.vllm_child import fingerprint
from sparring.sampling.vllm_engine import ServedPolicy, VllmEngine, end_kept, grouped
from sparring.sampling.vllm_process import check_vllm, environment

PROMPTS = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
REQUESTS = [Request(p, 100 * i + k) for i, p in enumerate(PROMPTS) for k in range(4)]


@pytest.fixture(autouse=True)
def _faked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(vllm_process, "CHILD", Path(fake.__file__))
    yield
    end_kept()


def engine(
    tmp_path: Path, name: str = "1/play", keep: bool = False, adapter: Path | None = None, **vllm: Any
) -> VllmEngine:
    folder = tmp_path / name
    policy = ServedPolicy(
        name=name,
        start=tmp_path,
        folder=folder if adapter is None else tmp_path,
        adapter=adapter,
        adapter_hash="" if adapter is None else adapter.name,
        adapter_rank=0 if adapter is None else 2,
        trust_remote_code=False,
        vocabulary=fake.VOCABULARY,
        window=2048,
        probe_ids=PROMPTS,
        probe_logps=[[fake.logp(token) for token in ids[1:]] for ids in PROMPTS],
        fingerprint=fake.fingerprint_of(str(folder)) if keep and adapter is None else None,
    )
    settings = SamplingConfig(engine="vllm", max_new_tokens=9, vllm=VllmConfig(**vllm))
    return VllmEngine(policy, settings, frozenset({fake.END}), tmp_path / "logs/vllm.log", keep)


def drawn(served: VllmEngine, requests: list[Request]) -> dict[int, Response]:
    with served:
        return dict(served.stream(requests))


def orders(path: Path, kind: str = "policy") -> list[dict[str, Any]]:
    """What processes were told of this kind."""
    told = [order for order in map(json.loads, path.read_text().splitlines()) if kind in order]
    return told if kind != "policy" else [{"process": order["process"], **order["policy"]} for order in told]


def expected(requests: list[Request]) -> dict[int, Response]:
    return {place: Response(*fake.tokens(request.seed, 9)) for place, request in enumerate(requests)}


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_every_request_is_answered_once_with_its_own_seed(copies: int, tmp_path: Path) -> None:
    served = engine(tmp_path, data_parallel=copies)
    with served:
        found = list(served.stream(REQUESTS))
    assert len(found) == len(REQUESTS)
    assert dict(found) == expected(REQUESTS)
    assert "6 log-probabilities within 0.001 nats" in served.note
    assert served.note in (tmp_path / "logs/vllm.log").read_text()


def test_the_job_says_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    drawn(engine(tmp_path, kv_cache_gib=1.5), REQUESTS)
    (job,) = orders(tmp_path / "jobs")
    (drawing,) = orders(tmp_path / "jobs", "requests")
    assert drawing["requests"][0] == [0, [0, 1, 2, 3], [1, 2, 3]]
    assert job["max_tokens"] == 4 + 9
    assert job["end_ids"] == [fake.END]
    assert job["kv_cache_gib"] == 1.5
    assert {"python", "data_parallel"}.isdisjoint(job)


@given(st.lists(st.tuples(st.sampled_from([(1,), (1, 2)]), st.integers(0, 5))))
def test_groups_hold_every_request_with_its_seed(pairs: list[tuple[tuple[int, ...], int]]) -> None:
    requests = [Request(ids, seed) for ids, seed in pairs]
    back = {
        place: Request(tuple(ids), first + index)
        for first, places, ids in grouped(requests)
        for index, place in enumerate(places)
    }
    assert [back[place] for place in range(len(requests))] == requests


def test_neighbours_with_seeds_in_a_row_are_one_request() -> None:
    requests = [Request([1], 5), Request([1], 6), Request([1], 8), Request([2], 9)]
    assert grouped(requests) == [(5, [0, 1], [1]), (8, [2], [1]), (9, [3], [2])]


def test_nothing_is_left_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nobody wants the rest."""
    started: list[subprocess.Popen[str]] = []
    true = vllm_process._start
    monkeypatch.setattr(vllm_process, "_start", lambda *args: started.append(child := true(*args)) or child)
    monkeypatch.setenv("FAKE_VLLM", "silent=3")
    with engine(tmp_path, keep=True) as served:
        next(served.stream(REQUESTS))
        assert started[0].poll() is None
    assert started[0].poll() is not None


# ---- an engine that is kept -----------------------------------------------------------------------


def kept_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str, **vllm: Any) -> list[dict[str, Any]]:
    """The orders of engines that serve these policies one after the other."""
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    for name in names:
        served = engine(tmp_path, name, keep=True, **vllm)
        assert drawn(served, REQUESTS) == expected(REQUESTS)
    return orders(tmp_path / "jobs")


@pytest.mark.parametrize("copies", [1, 2])
def test_the_next_policy_is_read_into_the_engine_that_is_there(
    copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = kept_runs(tmp_path, monkeypatch, "0/play", "1/play", "1/play", data_parallel=copies)
    assert len({order["process"] for order in told}) == copies
    assert [order["model"] for order in told] == [
        str(tmp_path / name) for name in ("0/play", "1/play", "1/play") for _ in range(copies)
    ]
    assert {order["max_tokens"] for order in told} == {256}
    assert len(orders(tmp_path / "jobs", "rest")) == 3 * copies
    log = (tmp_path / "logs/vllm.log").read_text()
    assert log.count("every weight the policy's") == 3 * copies


@pytest.mark.parametrize("fault", ["stale_weights", "stale_probe", "cannot_reload"])
def test_an_engine_that_cannot_prove_its_new_weights_is_started_anew(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", fault)
    told = kept_runs(tmp_path, monkeypatch, "0/play", "1/play")
    assert [order["model"][-6:] for order in told] == ["0/play", "1/play", "1/play"]
    assert told[0]["process"] == told[1]["process"] != told[2]["process"]
    assert "vLLM is started anew for policy 1/play" in (tmp_path / "logs/vllm.log").read_text()


def test_other_weights_in_the_same_folder_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine has not read them, since the folder is the one that it serves."""
    kept_runs(tmp_path, monkeypatch, "1/play")
    served = engine(tmp_path, keep=True)
    served.policy = dataclasses.replace(served.policy, fingerprint=7)
    assert drawn(served, REQUESTS) == expected(REQUESTS)
    told = orders(tmp_path / "jobs")
    assert [order["process"] == told[0]["process"] for order in told] == [True, True, False]
    assert "vLLM is started anew for policy 1/play" in (tmp_path / "logs/vllm.log").read_text()


def test_a_fresh_engine_that_cannot_serve_either_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "always_stale")
    with pytest.raises(ValueError, match=r"cannot serve policy 1/play: RuntimeError: no prefix cache"):
        drawn(engine(tmp_path, keep=True), REQUESTS)


@pytest.mark.parametrize("fault", ["dies_at_rest", "cannot_rest"])
def test_an_engine_that_ends_at_rest_is_started_anew(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", fault)
    told = kept_runs(tmp_path, monkeypatch, "0/play", "1/play")
    assert len({order["process"] for order in told}) == 2
    log = (tmp_path / "logs/vllm.log").read_text()
    assert ("vLLM is not kept: vLLM ended half-way" if fault == "cannot_rest" else "had ended (exit status 1)") in log
    assert "CUDA error: out of memory, at rest" in log


def test_an_engine_whose_weights_cannot_be_recognised_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "other_form")
    told = kept_runs(tmp_path, monkeypatch, "0/play", "1/play")
    assert len({order["process"] for order in told}) == 2
    assert not orders(tmp_path / "jobs", "rest")
    assert "not kept, for it holds weights in another form" in (tmp_path / "logs/vllm.log").read_text()


def test_longer_rows_and_other_settings_need_another_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    drawn(engine(tmp_path, keep=True), REQUESTS)
    drawn(engine(tmp_path, keep=True), [Request([1] * 300, 0)])
    drawn(engine(tmp_path, keep=True), REQUESTS)
    drawn(engine(tmp_path, keep=True, eager=True), REQUESTS)
    told = orders(tmp_path / "jobs")
    assert [order["max_tokens"] for order in told] == [256, 512, 512, 256]
    assert [order["process"] == told[1]["process"] for order in told] == [False, True, True, False]


def test_an_adapter_is_read_by_the_engine_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    for name in ("first", "second"):
        drawn(engine(tmp_path, keep=True, adapter=tmp_path / name), REQUESTS)
    told = orders(tmp_path / "jobs")
    assert len({order["process"] for order in told}) == 1
    assert [order["adapter"] for order in told] == [str(tmp_path / "first"), str(tmp_path / "second")]


def test_requests_of_one_policy_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    with engine(tmp_path, data_parallel=2) as served:
        assert dict(served.stream(REQUESTS[8:])) == expected(REQUESTS[8:])  # one prompt, the longest: one copy
        assert dict(served.stream(REQUESTS)) == expected(REQUESTS)
    assert len({order["process"] for order in orders(tmp_path / "jobs", "requests")}) == 2


def test_values_whose_bits_are_opposite_do_not_cancel() -> None:
    assert fingerprint([torch.tensor([1.0, -4.0])]) != fingerprint([torch.zeros(2)]) == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_fingerprint_sees_values_and_not_where_they_lie(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(n, 8, generator=generator).to(dtype) for n in (8, 4, 4))
    own = fingerprint([query, key, value])
    fused = torch.cat([query, key, value, torch.zeros(3, 8, dtype=dtype)])
    assert fingerprint([fused]) == fingerprint([fused.T]) == own
    query[3, 5] *= 1 + torch.finfo(dtype).eps
    query[0, 0], query[0, 1] = query[0, 1].clone(), query[0, 0].clone()
    assert fingerprint([query, key, value]) != own
    assert fingerprint([torch.zeros(3, dtype=torch.int8)]) is None


# ---- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("vocabulary=300", r"serves a model of 300 tokens, but policy 1/play has 260"),
        ("other_weights", r"does not serve policy 1/play: log-probabilities of 6 tokens differ by 1 nats"),
        (
            "start=ValueError: 3 GiB KV cache is needed, which is larger than the available KV cache memory",
            r"did not start.*raise sampling\.vllm\.kv_cache_gib",
        ),
        ("start=Free memory is less than desired GPU memory utilization", r"lower sampling\.vllm\.memory_share"),
        ("start=OSError: [Errno 98] Address already in use", r"took the port.*VLLM_PORT"),
        ("start=ModuleNotFoundError: No module named 'msgspec'", r"not complete.*pip install vllm"),
        ("start=something new", r"(?s)did not start \(exit status 1\).*something new.*logs/vllm\.log"),
    ],
)
def test_an_engine_that_cannot_serve_is_refused_with_a_remedy(
    fault: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", fault)
    with pytest.raises(ValueError, match=message):
        drawn(engine(tmp_path), REQUESTS)


def test_an_old_failure_in_the_log_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = engine(tmp_path)
    served.log.parent.mkdir()
    served.log.write_text("Address already in use\n")
    monkeypatch.setenv("FAKE_VLLM", "start=another reason")
    with pytest.raises(ValueError, match="another reason") as caught:
        drawn(served, REQUESTS)
    assert "port" not in str(caught.value)


def test_an_old_progress_bar_does_not_hide_this_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = engine(tmp_path)
    served.log.parent.mkdir()
    served.log.write_text("100%|" + "█" * 200 + "|\n", encoding="utf-8")  # three bytes each
    monkeypatch.setenv("FAKE_VLLM", "start=OSError: [Errno 98] Address already in use")
    with pytest.raises(ValueError, match="took the port"):
        drawn(served, REQUESTS)


def test_a_silent_engine_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "silent=2")
    with engine(tmp_path, silence_minutes=0.01) as served:
        stream = served.stream(REQUESTS)
        assert len([next(stream), next(stream)]) == 2
        with pytest.raises(EngineError, match=r"silence_minutes.*are kept"):
            next(stream)


def test_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_vllm(VllmConfig()) == "0.0-fake"
    monkeypatch.setenv("FAKE_VLLM", "missing")
    with pytest.raises(ValueError, match=r"has no vLLM\. Install it in an environment of its own.*pip install vllm"):
        check_vllm(VllmConfig())
    with pytest.raises(ValueError, match=r"sampling\.vllm\.python = '/no/python' cannot be run \(No such file"):
        check_vllm(VllmConfig(python="/no/python"))
    with pytest.raises(ValueError, match=r"sampling\.vllm\.python = '/bin/true' does not answer as a Python"):
        check_vllm(VllmConfig(python="/bin/true"))


def test_too_few_gpus_and_each_copy_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ValueError, match=r"tensor_parallel = 2 times data_parallel = 3 needs 6 GPUs, but 4"):
        check_vllm(VllmConfig(tensor_parallel=2, data_parallel=3))
    with pytest.raises(ValueError, match=r"data_parallel = 3: on a cluster each worker, or each tensor_parallel of"):
        check_vllm(VllmConfig(tensor_parallel=2, data_parallel=3), here=False)
    assert check_vllm(VllmConfig(tensor_parallel=8), here=False) == "0.0-fake"
    config = VllmConfig(tensor_parallel=2, data_parallel=2, python=sys.executable)
    assert [environment(config, i)["CUDA_VISIBLE_DEVICES"] for i in (0, 1)] == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("PYTHONPATH", "ours")
    assert environment(config, 1)["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert "PYTHONPATH" not in environment(config, 1)
    assert "WORLD_SIZE" not in environment(config, 1)


def test_the_real_child_says_that_vllm_is_missing_and_ends_with_its_parent(tmp_path: Path) -> None:
    child = Path(vllm_process.__file__).with_name("vllm_child.py")
    found = subprocess.run([sys.executable, "-S", child, "check"], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["vllm"] is None
    code = f"import queue, runpy; m = runpy.run_path({str(child)!r}); m['listen'](queue.SimpleQueue())"
    orphan = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True)
    time.sleep(0.1)
    assert orphan.poll() is None
    assert orphan.stdin is not None
    orphan.stdin.close()
    assert orphan.wait(10) == -9


def test_the_child_needs_nothing_of_ours() -> None:
    child = Path(vllm_process.__file__).with_name("vllm_child.py")
    assert "sparring." not in child.read_text().partition('"""\n')[2].replace("sparring.sampling", "")


# ---- in a run -------------------------------------------------------------------------------------


@pytest.fixture
def served_recipe(tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The tiny recipe with the fake engine, whose log-probabilities the trainer agrees with."""
    monkeypatch.setattr(engines, "prompt_logps", lambda model, ids: [fake.logp(token) for token in ids[1:]])
    section = {**tiny_recipe["sampling"], "engine": "vllm"}
    evaluation = {**tiny_recipe["evaluation"], "samples": 1, "every_iterate": False}
    return {**tiny_recipe, "sampling": section, "evaluation": evaluation, "rounds": 1}


def test_a_run_whose_engine_dies_keeps_what_was_sampled(
    served_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("FAKE_VLLM", "die=10")
    with pytest.raises(EngineError, match=r"(?s)half-way.*are kept; give the same command"):
        run(parse_recipe(served_recipe), out, Progress(quiet=True))
    (journal,) = out.glob("rounds/000/samples.partial/*.jsonl")
    kept = journal.read_text().splitlines()
    assert len(kept) == 10
    monkeypatch.delenv("FAKE_VLLM")
    moved = {**served_recipe["sampling"], "vllm": {"kv_cache_gib": 1}}
    run(parse_recipe({**served_recipe, "sampling": moved}), out, Progress(quiet=True))
    first, second, *_ = orders(tmp_path / "jobs", "requests")
    count = [sum(len(rows) for _, rows, _ in job["requests"]) for job in (first, second)]
    assert count == [24, 14]
    rows = read_table(out / "rounds/000/samples.parquet")
    assert len({(row["example"], row["index"]) for row in rows}) == 24
    for row in rows:
        assert (row["token_ids"], row["finish_reason"]) == fake.tokens(row["seed"], 8)
        assert row["weights"] == json.loads((out / "lock.json").read_text())["weights"]["0/play"]
    assert len({row["seed"] for row in rows}) == 24
    assert json.loads((out / "lock.json").read_text())["engine"] == {"vllm": "0.0-fake"}
    assert not list(out.rglob("*.partial"))


def test_damaged_lines_of_the_journal_are_sampled_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flipped bit gave other tokens to train on, or a traceback; the form of earlier versions is read still."""
    journal = tmp_path / "journal.jsonl"
    journal.write_text('[0, [1], "stop"]\n')
    asked: list[list[int]] = []
    came: list[list[int]] = []

    class Engine(contextlib.nullcontext[Any]):
        note = ""

        def __enter__(self) -> Engine:
            return self

        def stream(self, requests: Any) -> Any:
            asked.append([request.seed for request in requests])
            yield from ((i, Response([request.seed], "length")) for i, request in enumerate(requests))

    def drawn() -> list[Response]:
        requests = [Request([5], seed) for seed in range(4)]
        serve: Any = lambda _: Engine()  # noqa: E731
        return _streamed(serve, requests, journal, lambda *_: None, Progress(), lambda new: came.append(list(new)))

    expected = [Response([1], "stop"), *(Response([seed], "length") for seed in (1, 2, 3))]
    assert drawn() == expected
    lines = journal.read_text().splitlines()
    lines[1] = lines[1].replace("[1]", "[3]")
    journal.write_text("\n".join([*lines[:3], lines[3][:20]]))
    assert drawn() == expected
    assert asked == [[1, 2, 3], [1, 3]]
    assert came == [[0], [1], [2], [3], [0, 2], [1], [3]]
    assert "2 lines are damaged and are not used (line 2 first)" in " ".join(capsys.readouterr().out.split())
    journal.write_text('[9, [1], "stop"]\n[0, ["1"], "stop"]\n[1, [1], "why"]\n[2, [1], "stop"]\n')
    assert drawn()[2] == Response([1], "stop")
    assert asked[-1] == [0, 1, 3]


def test_the_adapter_is_handed_over_as_a_folder(
    served_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    model = {**served_recipe["model"], "lora": {"rank": 2}}
    run(parse_recipe({**served_recipe, "model": model}), tmp_path / "run", Progress(quiet=True))
    jobs = orders(tmp_path / "jobs")
    assert {(job["model"], job["adapter"]) for job in jobs} == {
        (model["path"], None),
        (model["path"], str(tmp_path / "run/rounds/000/policy")),
    }
    assert os.path.exists(jobs[-1]["adapter"] + "/adapter_config.json")


@pytest.mark.parametrize("warm", [True, False])
def test_a_warm_run_keeps_one_engine_and_ends_it(
    warm: bool, served_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setattr(engines, "fingerprint", lambda weights: 1)
    monkeypatch.setenv("FAKE_VLLM", "other_form")  # which is what the fingerprint above says
    run(parse_recipe({**served_recipe, "warm": warm}), tmp_path / "run", Progress(quiet=True))
    processes = {order["process"] for order in orders(tmp_path / "jobs")}
    assert len(processes) == (1 if warm else 3)  # the round, and the start and the final policy in the evaluation
    assert not any(os.path.exists(f"/proc/{process}") for process in processes)


def test_arithmetic_mixtures_are_served_one_policy_after_another(
    served_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_JOBS", str(tmp_path / "jobs"))
    algorithm = {"name": "spin", "window": 2, "samples": 2}
    run(parse_recipe({**served_recipe, "algorithm": algorithm, "rounds": 2}), tmp_path / "run", Progress(quiet=True))
    rows = read_table(tmp_path / "run/rounds/001/samples.parquet")
    assert {row["policy"] for row in rows} == {"0/play", "1/play"}
    assert len({row["weights"] for row in rows}) == 2
    assert len(rows) == 12


def test_token_mixtures_are_refused_with_the_reason(served_recipe: dict[str, Any]) -> None:
    algorithm = {"name": "nash_md"}
    with pytest.raises(ValueError, match=r"token-geometric mixture: that needs several policies'"):
        parse_recipe({**served_recipe, "algorithm": algorithm, "rounds": 2})
