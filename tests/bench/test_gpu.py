"""The GPU's checks, rehearsed on a CPU; budgets, failures, going on, and the page."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import fake_vllm_child as fake
from command import sparring
from sparring.bench import compare, gpu, worker_gpu
from sparring.bench.compare import model_sizes
from sparring.bench.gpu import Bench, Check, Skipped, cause, examine_gpu, outcome, within
from sparring.bench.worker import KINDS
from sparring.bench.worker_gpu import run_vllm, same_share
from sparring.bench.workload import useful_cost
from sparring.runtime import gpus
from sparring.sampling import vllm_process
from sparring.sampling.vllm_engine import ServedPolicy
from sparring.training.packing import Rollout

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.skipif(gpus.there(), reason="a rehearsal is for machines without a GPU")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process, and no other Python has vLLM or TRL."""
    for module in (gpu, compare):
        monkeypatch.setattr(module, "work", lambda job, command, seconds=None: KINDS[job["kind"]](job))
    for name in (gpu.VLLM_PYTHON, gpu.TRL_PYTHON):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpu, "installed", lambda name: None)


def checks(monkeypatch: pytest.MonkeyPatch, **runs: Any) -> None:
    monkeypatch.setattr(gpu, "CHECKS", tuple(Check(name, 60, run) for name, run in runs.items()))


def test_the_rehearsal_runs_every_check_and_says_what_it_is(here: None, tmp_path: Path):
    said: list[str] = []
    found = examine_gpu(8, tmp_path / "gpu.json", said.append)
    assert "REHEARSAL" in said[0]
    assert found["rehearsal"]
    assert {name: one["status"] for name, one in found["checks"].items()} == {
        "packed and padded": "passed",
        "blocks and flex": "passed",
        "8-bit Adam": "passed",
        "QLoRA": "passed",
        "vLLM reload": "skipped",
        "fit 1B": "measured",
        "fit 1B, flex": "skipped",
        "fit 1B, TRL": "skipped",
        "sampling, transformers": "measured",
        "sampling, vLLM": "skipped",
        "fit 8B LoRA": "measured",
        "fit 8B LoRA, TRL": "skipped",
    }, found
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    forms = found["checks"]["packed and padded"]["figures"]["forms"]
    assert [row["form"] for row in forms[:2]] == ["padded, float32", "packed, blocks, float32"]
    assert forms[1]["gradient_difference"] < 1e-4 < forms[3]["gradient_difference"]
    assert "stands_in" in found["checks"]["QLoRA"]["figures"]


def skips(bench: Bench) -> dict[str, Any]:
    raise Skipped("no such package")


def fails(bench: Bench) -> dict[str, Any]:
    raise ValueError("worker ended with status 1:\n  File x\ntorch.OutOfMemoryError: 3 GB\n[W] bye")


def test_a_failed_check_names_its_line_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "gpu.json"
    known: list[list[str]] = []

    def looks(bench: Bench) -> dict[str, Any]:
        known.append(list(json.loads(file.read_text())["checks"]))
        return {"passed": True}

    checks(monkeypatch, first=lambda _: {"rate": 1.0}, fails=fails, beyond=lambda _: {"passed": False}, none=skips,
           last=looks)  # fmt: skip
    found = examine_gpu(8, file, lambda _: None)["checks"]
    assert [one["status"] for one in found.values()] == ["measured", "failed", "failed", "skipped", "passed"]
    assert [one.get("why") for one in found.values()] == [
        None, "torch.OutOfMemoryError: 3 GB", "beyond its bounds", "no such package", None
    ]  # fmt: skip
    assert known == [["first", "fails", "beyond", "none"]]


def test_what_is_done_is_not_run_again_by_the_same_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, ran = tmp_path / "gpu.json", list[str]()

    def runs(name: str, passed: bool) -> Any:
        return lambda _: ran.append(name) or {"passed": passed}

    checks(monkeypatch, good=runs("good", True), bad=runs("bad", False))
    for _ in range(2):
        examine_gpu(8, file, lambda _: None)
    assert ran == ["good", "bad", "bad"]
    monkeypatch.setattr(gpu, "versions", lambda: {"vllm": "another"})
    examine_gpu(8, file, lambda _: None)
    assert ran[3:] == ["good", "bad"]


def test_no_check_begins_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checks(monkeypatch, one=skips, other=skips)
    said: list[str] = []
    found = examine_gpu(0.0, tmp_path / "gpu.json", said.append)["checks"]
    assert [one["status"] for one in found.values()] == ["not begun", "not begun"]
    assert said[1:] == [f"{name}: not begun, the time is over (0 s)" for name in ("one", "other")]


def test_a_check_ends_with_its_budget_or_with_the_whole(tmp_path: Path):
    bench = Bench(tmp_path, tmp_path / "log", print)
    bench.patience = 1.0
    check = Check("x", 60.0, lambda bench: {"left": bench.left()})
    now = gpu.time.monotonic()
    assert outcome(check, bench, now + 1000)["figures"]["left"] == pytest.approx(60, abs=5)
    assert outcome(check, bench, now + 30)["figures"]["left"] == pytest.approx(30, abs=5)


def test_a_process_is_killed_when_its_time_is_over(tmp_path: Path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    with pytest.raises(ValueError, match="was killed after 1 seconds"):
        compare.work({}, [sys.executable, str(tmp_path / "slow.py")], 1.0)


def test_a_small_gpu_skips_what_it_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = Bench(tmp_path, tmp_path / "log", print)
    bench.rehearsal = False
    monkeypatch.setattr(gpus, "memory", lambda: 24 * 10**9)
    found = outcome(Check("x", 60, fails, memory=60), bench, gpu.time.monotonic() + 100)
    assert found["why"] == "needs a GPU of 60 GB, this one has 24"


def test_an_error_without_an_exception_is_its_first_line():
    assert cause(ValueError("it did not start\n  so")) == "ValueError: it did not start"
    assert cause(ValueError("/a/b/python -m x was killed")) == "ValueError: python -m x was killed"


def test_bfloat16_may_differ_by_what_its_plain_form_does():
    def row(precision: str, difference: float) -> dict[str, Any]:
        same = {"nats_per_token": 0.0, "loss_difference": 0.0}
        return {"precision": precision, "gradient_difference": difference, **same}

    rows = [row("float32", 0.0), row("float32", 5e-4), row("bfloat16", 0.1), row("bfloat16", 0.2)]
    assert within({"forms": rows})["passed"]
    for place, difference in ((1, 2e-3), (3, 0.21)):
        worse = [*rows]
        worse[place] = row(rows[place]["precision"], difference)
        assert not within({"forms": worse})["passed"]


def test_tokens_are_the_same_up_to_the_first_that_differs():
    assert same_share([[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 0, 6]]) == 4 / 6
    assert same_share([[1]], []) is None


def test_two_policies_by_one_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The fake's tokens and log-probabilities are its own: the share of equal tokens is not looked at."""
    monkeypatch.setattr(vllm_process, "CHILD", Path(fake.__file__))

    def policy(**fields: Any) -> ServedPolicy:
        logps = [[fake.logp(token) for token in ids[1:]] for ids in fields["probe_ids"]]
        known = {"probe_logps": logps, "fingerprint": fake.fingerprint_of(str(fields["folder"]))}
        return ServedPolicy(**{**fields, **known})

    monkeypatch.setattr(worker_gpu, "ServedPolicy", policy)
    monkeypatch.setitem(gpu.TINY, "vocab_size", fake.VOCABULARY)
    monkeypatch.setenv(gpu.VLLM_PYTHON, sys.executable)
    bench = Bench(tmp_path, tmp_path / "vllm.log", print)
    monkeypatch.setattr(bench, "work", lambda job: run_vllm(job))
    found = gpu.vllm_reload(bench)
    assert found["proved"]
    assert not found["started_anew"]
    assert len(found["policies"]) == 2
    monkeypatch.setenv("FAKE_VLLM", "stale_weights")
    again = gpu.vllm_reload(bench)
    assert again["started_anew"]
    assert not again["proved"]


def test_an_adapter_s_frozen_weights_cost_four_operations(tmp_path: Path):
    one = Rollout([1] * 10, [[1] * 3])
    assert useful_cost([one], 100, 7, 2, 8, frozen=True).body == 4 * 100 * 12
    folder = str(Bench(tmp_path, tmp_path / "log", print).model("large"))
    whole, adapter = model_sizes(folder), model_sizes(folder, 4)
    assert whole["all"] == whole["trained"] == adapter["all"]
    hidden, inner, layers = 64, 96, 2
    # q, k, v, o and the three of the feed-forward part; k and v are half as wide
    sides = 2 * (hidden + hidden) + 2 * (hidden + hidden // 2) + 3 * (hidden + inner)
    assert adapter["trained"] == 4 * layers * sides


def test_the_page_is_that_of_the_stored_figures_and_no_rehearsal_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(DOCS)
    script = importlib.import_module("make_gpu")
    stored = json.loads(script.DATA.read_text()) if script.DATA.exists() else None
    assert stored is None or not stored["rehearsal"]
    assert "\n\n" + "\n".join(script.page_lines(stored)) + "\n\n" in (DOCS / script.PAGE).read_text()
    (tmp_path / "gpu.json").write_text(json.dumps({"rehearsal": True}))
    monkeypatch.setattr(script, "DATA", tmp_path / "stored.json")
    monkeypatch.setattr("sys.argv", ["make_gpu.py", str(tmp_path / "gpu.json")])
    script.main()
    assert "is a rehearsal" in capsys.readouterr().out
    assert not (tmp_path / "stored.json").exists()


def test_every_kind_of_figure_has_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(DOCS)
    lines = importlib.import_module("make_gpu").page_lines(
        {
            "machine": {"device": "GPU X", "cores": 8, "torch": "2.13", "transformers": "5.19", "python": "3.12"},
            "memory": 80 * 10**9,
            "versions": {"vllm": None, "trl": "1.16"},
            "checks": {
                "a": {"status": "passed", "seconds": 9.6, "figures": {"difference_by_steps": {"1": 0.01, "4": 0.1}}},
                "b": {"status": "failed", "seconds": 3, "why": "no memory"},
                "c": {"status": "passed", "seconds": 3, "figures": {"forms": [
                    {"form": "packed", "nats_per_token": 1e-6, "gradient_difference": 2e-5, "seconds": 0.1}]}},
                "d": {"status": "passed", "seconds": 3, "figures": {"policies": [
                    {"first_response_seconds": 9, "tokens_per_second": 5000.0, "serving_bytes": 9e9,
                     "resting_bytes": 1e9, "same_tokens": 1.0}] * 2}},
                "e": {"status": "measured", "seconds": 3, "figures": {
                    "micro_batch": 16, "tried": {"16": 1.0, "32": "OOM"}, "step_seconds": 0.5,
                    "pair_tokens_per_second": 1e5, "share_of_peak": 0.4, "peak_bytes": 3e10, "bytes_per_token": 2e6}},
            },
        }
    )  # fmt: skip
    assert lines[0].startswith("Measured on one GPU X with 80 GB, 8 CPU cores; torch 2.13")
    assert "vllm" not in lines[0]
    policy = "9.0 s, 5,000 tokens/s, 9.0 GB serving and 1.0 at rest, 100% of greedy tokens the same"
    assert lines[4:] == [
        "| a | passed | 10 s | difference by steps 1: 0.01, 4: 0.1 |",
        "| b | failed | 3 s | no memory |",
        "| c | passed | 3 s | packed: 1.0e-06 nats a token, gradient 2.0e-05, 100 ms |",
        f"| d | passed | 3 s | first response after {policy}; reloaded: first response after {policy} |",
        "| e | measured | 3 s | micro-batch 16 of 16, 32, 0.50 s a step, 100,000 pair tokens/s, 40% of the data "
        "sheet's peak, peak 30.0 GB, 2000 kB a token above the state |",
    ]


@pytest.mark.more
def test_the_command_says_that_it_rehearses(tmp_path: Path):
    """In processes of their own, as on a GPU."""
    found = sparring("bench", "gpu", "--json", tmp_path / "gpu.json")
    assert found.code == 0
    assert "rehearsed on a CPU, nothing was shown of a GPU" in found.out
