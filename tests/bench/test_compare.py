"""The benchmark's arithmetic, our worker on a tiny model, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from command import sparring
from sparring.bench import compare
from sparring.bench.compare import Setup, check_agreement, compare_fit, work
from sparring.bench.workload import PROFILES, Workload, useful_cost
from sparring.training.packing import Rollout

FAKE = """
import json, sys
job = json.loads(open(sys.argv[1]).read())
steps = len(job["rollouts"]) // job["batch_size"]
seconds = {1: 9.0, 2: 6.0, 4: 8.0, 8: 5.0}[job["micro_batch"]]
json.dump({"losses": [0.693] * steps, "step_seconds": [99.0] + [seconds] * (steps - 1) if steps > 1 else [seconds],
           "reference_seconds": 4.0, "peak_bytes": 8e9, "before_model_bytes": 0}, open(sys.argv[2], "w"))
"""


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fake_dpo.py").write_text(FAKE)
    monkeypatch.setattr(compare, "PEERS", tmp_path)
    return tmp_path


def own(losses: float = 0.693):
    def fake(setup: Setup, kind: str = "fit", seconds: float | None = None) -> dict:
        steps = len(setup.workload.rollouts) // setup.batch_size
        seconds = [50.0, *[2.0] * (steps - 1)] if steps > 1 else [2.0]
        return {"losses": [losses] * steps, "step_seconds": seconds, "reference_seconds": 2.0, "tokens": 100,
                "peak_bytes": 4e9, "before_model_bytes": 0}  # fmt: skip

    return fake


def test_profiles_have_the_lengths_they_name():
    drawn = {name: Workload.draw(name, 200, 2, 500).rollouts for name in PROFILES}
    ratio = {
        name: sum(len(r.prompt_ids) for r in rollouts) / sum(len(y) for r in rollouts for y in r.responses) * 2
        for name, rollouts in drawn.items()
    }
    assert 3.5 < ratio["long-prompt"] < 4.5
    assert 1.7 < ratio["hh"] < 2.6
    assert 0.4 < ratio["chat"] < 0.9
    assert drawn["chat"] == Workload.draw("chat", 200, 2, 500).rollouts


def test_a_scale_multiplies_the_lengths_and_is_named():
    plain, half, four = (Workload.draw("chat", 9, 2, 500, scale=times) for times in (1.0, 0.5, 4.0))
    lengths = [[len(part) for r in w.rollouts for part in (r.prompt_ids, *r.responses)] for w in (plain, half, four)]
    assert lengths[1:] == [[round(n * 0.5) for n in lengths[0]], [n * 4 for n in lengths[0]]]
    assert (half.name, four.name) == ("chat, K = 2, 0.5 times as long", "chat, K = 2, 4 times as long")


def test_a_micro_batch_that_would_train_other_steps_is_refused_first(tiny_model):
    found = sparring("bench", "fit", "--model", tiny_model, "--against", "trl", "--peer-micro-batch", "3")
    assert found.code == 2
    assert "--peer-micro-batch 3: it must divide the 8 pairs of a step" in found.err


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="profile = 'chta': give one of chat, hh, long-prompt"):
        Workload.draw("chta", 1, 2, 500)


def test_useful_cost_counts_shared_prompts_once():
    one = useful_cost([Rollout([1] * 10, [[1] * 3])], body=100, head=7, layers=2, width=8)
    two = useful_cost([Rollout([1] * 10, [[1] * 3, [1] * 3])], body=100, head=7, layers=2, width=8)
    assert one.body == 6 * 100 * 12
    assert two.body - one.body == 6 * 100 * 2
    assert one.head == 6 * 7 * 3
    assert one.attention == 12 * 2 * 8 * (55 + 2 * 10 + 3)


def test_the_peer_sees_the_same_prompts_in_our_order():
    setup = Setup("model", Workload.draw("chat", 6, 3, 500), batch_size=2)
    mine, other = setup.job(), setup.peer_job(1)
    assert mine["pairs"] == [(0, 1), (0, 2), (1, 2)]
    assert sorted(map(str, mine["rollouts"])) == sorted(map(str, other["rollouts"]))
    assert mine["rollouts"] != other["rollouts"]


def test_ratios_are_medians_of_alternating_runs(peers: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compare, "run_own", own())
    monkeypatch.setattr(compare, "model_sizes", lambda *_: {"all": 1e8, "trained": 1e8})
    monkeypatch.setattr(compare, "_efficiency", lambda *_: {})
    said: list[str] = []
    setup = Setup("model", Workload.draw("chat", 16, 2, 500), batch_size=8)
    case = compare_fit(setup, "fake", sys.executable, said.append)
    assert case["theirs"]["micro_batch"] == 2  # 4 is slower than 2, so 8 is not tried
    assert case["speed_ratio"] == 3.0
    assert case["speed_ratio_with_reference"] == (6.0 + 2.0) / (2.0 + 1.0)
    assert case["memory_ratio"] == 0.5
    assert case["memory_ratio_above_constant"] == pytest.approx(2.4 / 6.4)
    assert len(said) == 3 + 2 * setup.repeats


def test_speeds_of_different_work_are_refused(peers: Path, monkeypatch: pytest.MonkeyPatch):
    setup = Setup("model", Workload.draw("chat", 8, 2, 500))
    monkeypatch.setattr(compare, "run_own", own(0.7))
    with pytest.raises(ValueError, match=r"losses of fake and ours differ by 0\.007"):
        check_agreement(setup, "fake", sys.executable, 500)
    monkeypatch.setattr(compare, "run_own", own())
    assert check_agreement(setup, "fake", sys.executable, 500)["largest_difference"] == 0.0


def test_a_failing_process_shows_its_last_words(tmp_path: Path):
    (tmp_path / "broken.py").write_text("raise SystemExit('no such peer here')")
    with pytest.raises(ValueError, match="no such peer here"):
        work({}, [sys.executable, str(tmp_path / "broken.py")])


def test_pairs_of_a_file_name_the_bad_line(tmp_path: Path, tiny_model: Path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"prompt": "Hi", "chosen": "Hello there"}) + "\n")
    with pytest.raises(ValueError, match=r"pairs\.jsonl, line 1: .*rejected"):
        Workload.read(file, tiny_model, 4)
