"""Pass rates of stored answers: against counts by hand, with several answers a prompt."""

from __future__ import annotations

import json
import re

import pytest

from command import sparring
from sparring.evaluation.intervals import SHARE, CountedInterval, interval
from sparring.evaluation.pass_rate import pass_rate, read_samples
from sparring.oracles.rules import Rules

CHECKS = [{"rule": "number", "value": 4}, {"rule": "number", "value": 9}, {"rule": "max_words", "count": 2}, None]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def rules(tmp_path):
    return lines(tmp_path / "rules.jsonl", [{"prompt": f"p{i}", "check": check} for i, check in enumerate(CHECKS)])


def answers(*texts):
    return [{"instruction": prompt, "output": text, "generator": "m"} for prompt, text in texts]


def test_shares_are_of_answers_and_intervals_over_prompts(tmp_path, rules):
    given = answers(
        ("p0", "so 4"), ("p0", "5"), ("p1", "it is 9"), ("p1", "9"), ("p2", "a b c"), ("p2", ""), ("p3", "x")
    )
    two = [
        lines(tmp_path / f"{n}.jsonl", part)
        for n, part in enumerate((given[:3], [*given[3:], {**given[0], "output": 3}]))
    ]
    found = pass_rate(read_samples(two), Rules(str(rules)))
    over = interval([0.5, 1.0, 0.0], SHARE)
    assert found["pass_rate"] == CountedInterval(0.5, over.low, over.high, 6)
    assert {name: (share.value, share.count) for name, share in found["by_rule"].items()} == {
        "number": (0.75, 4),
        "max_words": (0.0, 2),
    }
    assert (found["model"], found["prompts"], found["empty"], found["unanswered"]) == ("m", 3, 1, 0)
    assert found["left_out"] == {"answer is a number, not text": 1, "answers to prompts without a rule": 1}


def test_several_rules_of_a_prompt_count_together_and_by_kind(tmp_path):
    check = [{"rule": "max_words", "count": 2}, {"rule": "punctuation:no_comma"}]
    data = lines(tmp_path / "rules.jsonl", [{"prompt": "p", "check": check}, {"prompt": "q", "check": check[:1]}])
    given = answers(("p", "a b"), ("p", "a, b"), ("p", "a, b, c"), ("q", "a"), ("q", "Sure:\na b"))
    file = lines(tmp_path / "mine.jsonl", given)
    found = pass_rate(read_samples([file]), Rules(str(data)))
    assert (found["pass_rate"].value, found["pass_rate"].count) == (2 / 5, 5)
    assert (found["rules_kept"].value, found["rules_kept"].count) == (4 / 8, 8)
    kinds = {name: (share.value, share.count) for name, share in found["by_rule"].items()}
    assert kinds == {"max_words": (3 / 5, 5), "punctuation:no_comma": (1 / 3, 3)}
    assert pass_rate(read_samples([file]), Rules(str(data), reading="loose"))["pass_rate"].value == 3 / 5
    shown = sparring("evaluate", "pass-rate", file, "--oracle", f"{{name: rules, data: {data}}}")
    assert re.search(r"all of a prompt's rules +40.0 .* 5\n.*each by itself +50.0 .* 8\n", shown.out)


def test_the_command_needs_no_opponent(tmp_path, rules):
    file = lines(tmp_path / "mine.jsonl", answers(("p0", "4"), ("p2", "too many words")))
    words = ("evaluate", "pass-rate", file, "--oracle", f"{{name: rules, data: {rules}}}")
    shown = sparring(*words)
    assert shown.code == 0
    assert "number" in shown.out
    assert "1 prompts with a rule have no answer here" in shown.out
    plain = json.loads(sparring(*words, "--json", "--out", tmp_path / "out").out)
    assert plain["pass_rate"]["value"] == 0.5
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == plain


@pytest.mark.parametrize(
    ("oracle", "rows", "message"),
    [
        ("{name: length}", answers(("p0", "4")), "'length' compares two answers"),
        (None, answers(("q", "4")), "no answered prompt has a rule"),
        (None, [{"instruction": "p0", "output": None}], "no usable row .1 rows: answer missing"),
        (None, [*answers(("p0", "4")), {"instruction": "p1", "output": "9", "generator": "n"}], "2 generators"),
        (None, [{"question": "p0"}], "needs a column"),
    ],
)
def test_what_cannot_be_graded_is_refused(tmp_path, rules, oracle, rows, message):
    file = lines(tmp_path / "mine.jsonl", rows)
    outcome = sparring("evaluate", "pass-rate", file, "--oracle", oracle or f"{{name: rules, data: {rules}}}")
    assert outcome.code == 2
    assert re.search(message, outcome.err.replace("\n", " "))
