"""Overlap of training prompts with benchmarks: exact, by n-grams, and what is not overlap."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import sparring
from conftest import write_jsonl
from sparring.evaluation.overlap import find_overlap, read_prompts

LONG = "Explain in simple terms how a steam engine turns heat into motion and why it matters"


def test_case_and_punctuation_do_not_hide_an_exact_match():
    found = find_overlap(["Why is the SKY blue?!"], ["why is the sky blue", "Why is the sea blue?"])
    assert (found.exact, found.overlapping, found.short) == (1, 1, 2)
    assert found.matches[0].exact
    assert (found.matches[0].row, found.matches[0].train_row) == (0, 0)


def test_a_quoted_prompt_is_found_and_a_shared_phrase_is_only_counted():
    train = ["Something else.", f"Please do this: {LONG}. Thanks!"]
    found = find_overlap(train, [LONG, f"{' '.join(LONG.split()[:8])}, or choose another topic that you like better"])
    assert (found.overlapping, found.touched, found.exact) == (1, 2, 0)
    assert (found.matches[0].share, found.matches[0].train_row) == (1.0, 1)


def test_grams_of_several_training_prompts_add_up_and_the_closest_is_shown():
    tokens = LONG.split()
    found = find_overlap([" ".join(tokens[:8]), " ".join(tokens[6:])], [LONG], n=4, share=0.9)
    assert found.matches[0].share == pytest.approx(12 / 13)
    assert found.matches[0].train_row == 1


@given(st.lists(st.text("ab ", max_size=12), max_size=6), st.lists(st.text("ab ", min_size=1, max_size=12), max_size=6))
def test_counts_are_ordered_and_a_benchmark_overlaps_itself(train, bench):
    found = find_overlap(train, bench, n=2)
    assert found.exact <= found.overlapping <= found.touched <= found.prompts
    whole = find_overlap(bench, bench, n=2)
    assert whole.exact == sum(bool(text.split()) for text in bench)


def test_prompts_of_many_forms_are_read(tmp_path):
    rows = [
        {"turns": ["First?", "Then?"]},
        {"turns": [{"content": "Only."}]},
        {"turns": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]},
        {"turns": []},
        {"turns": None},
    ]
    prompts, _, dropped, _ = read_prompts(str(write_jsonl(tmp_path / "q.jsonl", rows)))
    assert prompts == ["First?\nThen?", "Only.", "Hi"]
    assert dropped == {"prompt missing or empty": 2}
    assert len(read_prompts("sparring:prompts", "held_out")[0]) < len(read_prompts("sparring:prompts")[0])
    with pytest.raises(ValueError, match=r"it has 'other'. Give --column"):
        read_prompts(str(write_jsonl(tmp_path / "o.jsonl", [{"other": "x"}])))


def test_a_set_and_the_run_that_trained_on_it_hold_the_same_prompts(tmp_path):
    """A run's table holds the system message and the roles in its prompts, a CSV its messages as JSON text."""
    turns = [{"role": role, "content": text} for role, text in (("system", "Be brief."), ("user", "Hi"))]
    called = [*turns, {"role": "assistant", "content": "x", "tool_calls": [{"name": "f"}]}, turns[1]]
    frame = {"prompt": [json.dumps(turns), json.dumps(called), "\n\nHuman: Ho\n\nAssistant:"]}
    pacsv.write_csv(pa.table(frame), tmp_path / "t.csv")
    found = read_prompts(str(tmp_path / "t.csv"))
    assert found.texts == ["Hi", "Hi\nHi", "Ho"]
    assert found.dropped == {}
    table = tmp_path / "run" / "data" / "train.parquet"
    table.parent.mkdir(parents=True)
    pq.write_table(pa.table({"prompt": ["system: Be brief.\n\nuser: Hi"], "messages": [turns]}), table)
    assert read_prompts(str(tmp_path / "run")).texts == ["Hi"]


def test_the_command_counts_and_shows(tmp_path):
    train = write_jsonl(tmp_path / "train.jsonl", [{"prompt": LONG}, {"prompt": "Say ant"}])
    bench = write_jsonl(tmp_path / "bench.jsonl", [{"question": LONG.lower()}, {"question": "Other?"}])
    shown = sparring("evaluate", "overlap", train, bench, "--out", tmp_path / "out")
    assert shown.code == 0, shown.err
    assert "1 (50.0%)" in shown.out
    assert "bench.jsonl 0, exact: explain in simple terms" in shown.out
    assert "train.jsonl: prompts are column 'prompt' (else --train-column)" in shown.out
    assert "bench.jsonl: prompts are column 'question' (else --column)" in shown.out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["train"]["column"], result["benchmarks"][0]["column"]) == ("prompt", "question")
    assert result["benchmarks"][0]["matches"][0]["prompt"] == LONG.lower()
    assert set(result["files"]) == {str(train), str(bench)}
    clean = sparring("evaluate", "overlap", "sparring:prompts", bench, "--split", "train", "--json")
    assert json.loads(clean.out)["benchmarks"][0]["overlapping"] == 0


def test_a_folder_of_runs_is_refused_and_every_file_that_is_read_is_hashed(tmp_path):
    bench = write_jsonl(tmp_path / "bench.jsonl", [{"question": LONG}])
    held = tmp_path / "runs/mine/data/train.parquet"
    held.parent.mkdir(parents=True)
    pq.write_table(pa.table({"prompt": [LONG]}), held)
    (tmp_path / "runs/answers.json").write_text('[{"prompt": "Something else."}]')
    refused = sparring("evaluate", "overlap", tmp_path / "runs", bench)
    assert (refused.code, f"Name one, such as '{tmp_path / 'runs/mine'}'" in refused.err) == (2, True)
    unprepared = tmp_path / "others/new/recipe.yaml"
    unprepared.parent.mkdir(parents=True)
    unprepared.write_text("algorithm: {name: inpo}\n")
    (tmp_path / "others/answers.json").write_text('[{"prompt": "Something else."}]')
    refused = sparring("evaluate", "overlap", tmp_path / "others", bench)
    assert (refused.code, "but holds runs" in refused.err) == (2, True)
    found = json.loads(sparring("evaluate", "overlap", tmp_path / "runs/mine", bench, "--json").out)
    assert found["benchmarks"][0]["exact"] == 1
    assert found["train"]["files"] == [str(held)]
    assert found["files"].keys() == {str(held), str(bench)}
    (tmp_path / "new").mkdir()
    (tmp_path / "new/recipe.yaml").write_text("{}")
    refused = sparring("evaluate", "overlap", tmp_path / "new", bench)
    assert (refused.code, "without data/train.parquet" in refused.err) == (2, True)


def test_every_shard_is_hashed(tmp_path):
    bench = write_jsonl(tmp_path / "bench.jsonl", [{"question": LONG}])
    (tmp_path / "set").mkdir()
    shards = [write_jsonl(tmp_path / f"set/train-{i}.jsonl", [{"prompt": f"Say {i}"}]) for i in range(2)]
    found = json.loads(sparring("evaluate", "overlap", tmp_path / "set", bench, "--json").out)
    assert found["files"].keys() == {*map(str, shards), str(bench)}


def test_a_template_that_all_prompts_have_is_counted_once():
    """Every training row was compared with every prompt of the benchmark."""
    template = "you are a helpful assistant please answer the following question as well as you can "
    train, bench = ([f"{template}{side} {i} a b" for i in range(count)] for side, count in (("t", 4000), ("b", 1000)))
    began = time.process_time()
    found = find_overlap(train, bench, n=8, share=0.5)
    assert time.process_time() - began < 2
    assert (found.touched, found.exact) == (1000, 0)
    assert {match.train_row for match in found.matches} == {0}
