"""Answers that code can check, and the reader of labelled pairs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sparring.data.instructions import plain
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.labelled import held_out, read_labelled
from sparring.oracles.oracle import Comparison


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def judge(section, *cases):
    return build_oracle({"name": "rules", **section}, "").judge([Comparison(*case) for case in cases]).tolist()


def test_number_reads_gold_texts_with_a_working(tmp_path):
    data = jsonl(tmp_path / "g.jsonl", [{"question": "6*12?", "answer": "6 * 12 = 72\n#### 72"}])
    section = {"data": data, "rule": "number", "prompt": "question", "gold": "answer"}
    cases = [("6*12?", "It is 72.", "It is 71."), ("6*12?", "71", "72"), ("6*12?", "72", "= 72"), ("other", "1", "2")]
    assert judge(section, *cases) == [1.0, 0.0, 0.5, 0.5]


def test_checks_that_travel_with_the_data(tmp_path):
    data = jsonl(tmp_path / "c.jsonl", [{"prompt": "p", "check": {"rule": "one_word"}}, {"prompt": "q", "check": None}])
    oracle = build_oracle({"name": "rules", "data": data}, "")
    assert oracle.judge([Comparison("p", "Blue", "It is blue"), Comparison("q", "a", "b")]).tolist() == [1.0, 0.5]
    assert oracle.counts() == {"comparisons without a rule": 1}


def test_rows_that_a_run_would_drop_are_counted_and_not_an_error(tmp_path):
    """One row of a thousand with bad tools stopped the oracle, which the run itself drops and counts."""
    rows = [{"prompt": "p", "tools": None}, {"prompt": "q", "tools": [{"name": ""}]}, {"prompt": " ", "tools": None}]
    rows = [{**row, "check": {"rule": "one_word"}} for row in rows]
    rows.append({"prompt": "r", "tools": [{}], "check": None})
    oracle = build_oracle({"name": "rules", "data": jsonl(tmp_path / "c.jsonl", rows)}, "")
    assert oracle.judge([Comparison("p", "Blue", "It is blue")]).tolist() == [1.0]
    left_out = {f"rows of oracle.data left out: {why}": 1 for why in ("a tool has no name", "the prompt is empty")}
    assert oracle.counts() == {"comparisons without a rule": 0, **left_out}
    data = jsonl(tmp_path / "d.jsonl", rows[1:])
    with pytest.raises(ValueError, match=r"no row of .*holds a rule; 1 x a tool has no name; 1 x the prompt is empty"):
        build_oracle({"name": "rules", "data": data}, "")


@pytest.mark.parametrize(("rule", "gold"), [("equals", "Paris"), ("regex", r"(?i)\bparis\b")])
def test_equals_and_regex(tmp_path, rule, gold):
    data = jsonl(tmp_path / "e.jsonl", [{"prompt": "p", "gold": gold}])
    assert judge({"data": data, "rule": rule, "gold": "gold"}, ("p", "paris.", "London")) == [1.0]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rule": "number"}, "name the gold column"),
        ({"gold": "gold"}, "none for check"),
        ({"rule": "number", "gold": "gold"}, "holds no number"),
        ({"rule": "regex", "gold": "gold"}, "regular expression"),
        ({"rule": "equals", "gold": "answer"}, "no column 'answer'"),
    ],
)
def test_bad_rules(tmp_path, section, message):
    data = jsonl(tmp_path / "b.jsonl", [{"prompt": "p", "gold": "((", "check": None}])
    with pytest.raises(ValueError, match=message):
        build_oracle({"name": "rules", "data": data, **section}, "")


def test_several_rules_are_scored_whole_or_by_their_share(tmp_path):
    check = [{"rule": "max_words", "count": 2}, {"rule": "punctuation:no_comma"}]
    data = jsonl(tmp_path / "c.jsonl", [{"prompt": "p", "check": check}])
    cases = [("p", "one two", "one, two three"), ("p", "one two", "one two three"), ("p", "a, b, c", "a, b")]
    assert judge({"data": data}, *cases) == [1.0, 1.0, 0.5]
    assert judge({"data": data, "score": "share"}, *cases) == [1.0, 0.75, 0.25]
    loose = [("p", "Sure, here it is:\none two", "one, two")]
    assert judge({"data": data}, *loose) == [0.5]
    assert judge({"data": data, "reading": "loose"}, *loose) == [1.0]


def test_scoring_is_part_of_the_identity_and_the_default_is_the_old_one(tmp_path):
    data = jsonl(tmp_path / "c.jsonl", [{"prompt": "p", "check": {"rule": "one_word"}}])
    plain, share = (build_oracle({"name": "rules", "data": data, **more}, "") for more in ({}, {"score": "share"}))
    assert plain.identity == "rules-v1(dc4600428c0a3e94)"
    assert share.identity == "rules-v1(dc4600428c0a3e94, share)"


def test_ifevals_own_rows(tmp_path):
    row = {"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]}
    data = jsonl(tmp_path / "c.jsonl", [row])
    assert judge({"data": data}, ("p", "a b", "a, b"), ("other", "a", "b")) == [1.0, 0.5]
    data = jsonl(tmp_path / "d.jsonl", [{**row, "kwargs": []}])
    with pytest.raises(ValueError, match=r"row 1, .*lists of one length, not 1 and 0"):
        judge({"data": data}, ("p", "a", "b"))


def test_a_pattern_without_an_end_fails_its_comparison_only(tmp_path, monkeypatch):
    """It held the judge for ever; the others are judged."""
    monkeypatch.setattr(plain, "SECONDS", 0.05)
    rows = [{"prompt": "p", "gold": "(a+)+$"}, *({"prompt": str(i), "gold": "b"} for i in range(30))]
    section = {"name": "rules", "data": jsonl(tmp_path / "e.jsonl", rows), "rule": "regex", "gold": "gold"}
    guard = Guard(build_oracle(section, ""))
    answers = guard.judge([Comparison(row["prompt"], "a" * 40 + "b", "-") for row in rows])
    assert np.isnan(answers).tolist() == [True, *[False] * 30]
    assert "the pattern '(a+)+$' takes more than" in guard.last_error


HH = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: why?\n\nAssistant: {}"


@pytest.mark.parametrize(
    ("row", "preference"),
    [
        ({"prompt": "p", "chosen": "x", "rejected": "y"}, 1.0),
        ({"prompt": "p", "response_1": "x", "response_2": "y", "label": 2}, 0.0),
        ({"prompt": "p", "response_1": "x", "response_2": "y", "label": "0"}, 0.5),
        ({"prompt": "p", "a": "x", "b": "y", "label": "A"}, 1.0),
        ({"prompt": "p", "a": "x", "b": "y", "preference": 0.25}, 0.25),
        ({"prompt": [{"role": "user", "content": "p"}], "a": "x", "b": "y", "label": 1.0}, 1.0),
    ],
)
def test_forms_of_labels(tmp_path, row, preference):
    (pair,), dropped = read_labelled(jsonl(tmp_path / "l.jsonl", [row, row]))
    assert pair.comparison == Comparison("p", "x", "y")
    assert pair.preference == preference
    assert dropped == {"duplicate": 1}


def test_transcripts_bring_their_prompt(tmp_path):
    row = {"chosen": HH.format("because"), "rejected": HH.format("no")}
    (pair,), _ = read_labelled(jsonl(tmp_path / "h.jsonl", [row]))
    assert pair.comparison == Comparison("user: hi\n\nassistant: hello\n\nuser: why?", "because", "no")


def test_rows_that_cannot_be_used_are_counted(tmp_path):
    good = {"prompt": "p", "a": "x", "b": "y", "preference": 1.0}
    rows = [good, {**good, "preference": 2}, {**good, "a": None}, {**good, "b": "x"}, {**good, "a": " "}]
    rows += [{**good, "preference": None, "label": "both"}]
    _, dropped = read_labelled(jsonl(tmp_path / "d.jsonl", rows))
    assert sum(dropped.values()) == 5
    assert len(dropped) == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preference": [1]}, "the preference is no number in [0, 1]"),
        ({"preference": {"a": 1}}, "the preference is no number in [0, 1]"),
        ({"preference": "high"}, "the preference is no number in [0, 1]"),
        ({"preference": math.nan}, "the preference is no number in [0, 1]"),
        ({"preference": 10**400}, "the preference is no number in [0, 1]"),
        ({"label": 0.7}, "the label is not a whole number; a probability goes under preference"),
        ({"label": math.inf}, "the label is not a whole number; a probability goes under preference"),
        ({"label": [1]}, "the label is none of 1, 2, 0, a, b, tie"),
    ],
)
def test_odd_labels_are_counted(tmp_path, changes, reason):
    """Lists and infinity ended in tracebacks, and a label of 0.7 was a tie without a word."""
    good = {"prompt": "p", "a": "x", "b": "y", "preference": 1.0}
    odd = {"prompt": "p", "a": "x", "b": "z", **changes}
    _, dropped = read_labelled(jsonl(tmp_path / "o.jsonl", [good, odd]))
    assert dropped == {reason: 1}


def test_an_unknown_check_names_file_and_row(tmp_path):
    data = jsonl(tmp_path / "r.jsonl", [{"prompt": "p", "check": {"rule": "one_word"}}, {"prompt": "q", "check": 5}])
    with pytest.raises(ValueError, match=r"r.jsonl', row 2, .*the check 5 cannot be used"):
        build_oracle({"name": "rules", "data": data}, "")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ({}, "the prompt is empty"),
        ({"prompt": None}, "the prompt is empty"),
        ({"prompt": 5}, "expected text or a list of messages, got int"),
        ({"prompt": [1]}, "a message needs 'role' and 'content'"),
    ],
)
def test_a_rule_without_a_prompt_is_counted(tmp_path, prompt, reason):
    data = jsonl(tmp_path / "r.jsonl", [{"prompt": "p", "gold": "1"}, {**prompt, "gold": "2"}])
    oracle = build_oracle({"name": "rules", "data": data, "rule": "number", "gold": "gold"}, "")
    assert oracle.counts() == {"comparisons without a rule": 0, f"rows of oracle.data left out: {reason}": 1}


def test_foreign_columns_are_named(tmp_path):
    with pytest.raises(ValueError, match="has the columns 'question', 'good'"):
        read_labelled(jsonl(tmp_path / "f.jsonl", [{"question": "p", "good": "x"}]))


def test_a_prompt_is_on_one_side_only():
    share = sum(held_out(f"prompt {i}", 0.2) for i in range(2000)) / 2000
    assert share == pytest.approx(0.2, abs=0.03)
    assert held_out("x", 0.2) == held_out("x", 0.2)
    assert not held_out("x", 0.0)
    assert held_out("x", 1.0)
