"""Asking judges: both orders, the last mark, references where due, and rows that the scores read."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest

from conftest import write_jsonl
from sparring.data.rows import read_file
from sparring.endpoints.replies import Reply
from sparring.evaluation.arena_hard import read_judgments, score
from sparring.evaluation.judge_benchmarks import (
    CHOICE,
    Judge,
    arena_hard_rows,
    last_mark,
    pair_rows,
    read_level,
    read_rating,
    read_turns,
    single_rows,
    unserved,
)
from sparring.evaluation.mt_bench import pairwise, single

DATA = Path(os.environ.get("SPARRING_EVALUATION_DATA", "-")) / "mt_bench"


Said = partial(Reply, cut=False)


@pytest.mark.parametrize(
    ("mark", "reply", "verdict"),
    [
        (CHOICE, Said("[[A]] or [[C]]"), "C"),
        (CHOICE, Said("<think>surely [[A]]</think> [[B]]"), "B"),
        (CHOICE, Said("<think>surely [[A]]"), None),
    ],
)
def test_the_last_mark_of_a_whole_reply_counts(mark, reply, verdict):
    assert last_mark(mark, reply) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (Said("first I thought [[B>A]], but [[A>>B]]."), "A>>B"),
        (Said("[[A<<B]]"), "B>>A"),
        (Said("[[A<B]]"), "B>A"),
        (Said("[[B=A]]"), "A=B"),
        (Said("[[B<A]]"), "A>B"),
        (Said("[[B<<A]]"), "A>>B"),
        (Said("My final verdict is: [B>A]"), "B>A"),
        (Said("[[A=B]], not [A>B]"), "A=B"),
        (Said("[[A>A]] or [[A>>>B]]"), None),
        (Said("A>B without brackets"), None),
        (Said("[[A>B]] and then cut", cut=True), None),
        (None, None),
    ],
)
def test_arena_hards_verdicts_are_read_from_either_side(reply, verdict):
    assert read_level(reply) == verdict


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("of [[10]] I give Rating: [[7.5]]", 7.5),
        ("Rating: [[7]], for the sources see [1]", 7.0),
        ("[6]", 6.0),
        ("Rating: [[100]]", None),
        ("six", None),
    ],
)
def test_a_rating_is_the_last_in_double_brackets_and_possible(text, rating):
    assert read_rating(Said(text)) == rating


def longer_wins(requests):
    """A judge that prefers the longer answer, whatever the order."""
    replies = []
    for request in requests:
        user = request["messages"][1]["content"]
        a, b = (len(user.split(f"Assistant {x}'s Answer|>\n")[1].split("\n<|The End")[0]) for x in "AB")
        replies.append(Said(f"[[{'A=B' if a == b else 'A>B' if a > b else 'B>A'}]]"))
    return replies


def test_arena_hard_rows_are_scored_as_they_were_judged(tmp_path):
    questions = [{"uid": "x", "prompt": "Why?"}, {"question_id": "y", "turns": [{"content": "How?"}]}]
    ours = {"x": {"text": "long {answer}"}, "y": {"text": "long answer"}}
    theirs = {"x": {"text": "short"}, "y": {"text": "short"}}
    rows = arena_hard_rows(questions, ours, theirs, ("new", "old"), "Judge.", Judge("longer", longer_wins, 64))
    assert [game["score"] for game in rows[0]["games"]] == ["B>A", "A>B"]
    assert "long {answer}" in rows[0]["games"][0]["user_prompt"]
    found = score(read_judgments([write_jsonl(tmp_path / "j.jsonl", rows)]), resamples=10)
    assert (found.judge, found.models[0].score.value) == ("longer (prompt 581f76da, at most 64 tokens)", 100.0)


def test_a_failed_judge_gives_no_verdict_and_missing_answers_are_named():
    questions, sides = [{"uid": "x", "prompt": "Why?"}], ({"x": {"text": "a"}}, {"x": {"text": "b"}})
    rows = arena_hard_rows(questions, *sides, ("new", "old"), "Judge.", Judge("j", lambda r: [None] * len(r), 64))
    assert [game["score"] for game in rows[0]["games"]] == [None, None]
    with pytest.raises(ValueError, match="old has no answer to question x"):
        arena_hard_rows(questions, sides[0], {}, ("new", "old"), "Judge.", Judge("j", longer_wins, 64))


def test_empty_answers_lose_without_the_judge(tmp_path):
    def nobody(requests):
        raise AssertionError("asked about an empty answer")

    questions = [{"uid": "x", "prompt": "Why?"}, {"uid": "y", "prompt": "How?"}]
    sides = {"x": {"text": " "}, "y": {"text": ""}}, {"x": {"text": "b"}, "y": {"text": ""}}
    rows = arena_hard_rows(questions, *sides, ("new", "old"), "Judge.", Judge("j", nobody, 64))
    assert [[game["score"] for game in row["games"]] for row in rows] == [["A>>B", "B>>A"], ["A=B", "A=B"]]
    assert rows[0]["games"][0]["judgment"].startswith("Not asked: answer B is empty.")
    assert len(read_judgments([write_jsonl(tmp_path / "j.jsonl", rows)])) == 2
    other = {"81": ["", " "], "111": ["", ""]}
    judged = pair_rows(QUESTIONS, (ANSWERS, other), REFERENCES, ("m", "n"), PROMPTS, Judge("j", nobody, 64))
    assert {(row["g1_winner"], row["g2_winner"]) for row in judged} == {("model_1", "model_1")}


QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 111, "category": "math", "turns": ["1 + 1?", "Twice that?"]},
]
CATEGORIES = {"81": "writing", "111": "math"}
REFERENCES = {"111": ["two", "four"]}
ANSWERS = {"81": ["poem", "verse"], "111": ["2", "4"]}
PROMPTS = {
    name + turn: {
        "system_prompt": "Be fair.",
        "prompt_template": " ".join(
            [f"{{question{'_2' if turn else ''}}}"]
            + [f"{{{field}{'_2' if turn else ''}}}" for field in fields]
            + (["{ref_answer_2}" if turn else "{ref_answer_1}"] if "math" in name else [])
        ),
    }
    for name, fields in {
        "single-v1": ["answer"],
        "single-math-v1": ["answer"],
        "pair-v2": ["answer_a", "answer_b"],
        "pair-math-v1": ["answer_a", "answer_b"],
    }.items()
    for turn in ("", "-multi-turn")
}


def test_single_ratings_use_references_and_later_turns():
    seen = []

    def ask(requests):
        seen.extend(request["messages"][1]["content"] for request in requests)
        return [Said(f"Rating: [[{rating}]]") for rating in (9, 8, 7)] + [None]

    rows = single_rows(QUESTIONS, ANSWERS, REFERENCES, "m", PROMPTS, Judge("j", ask, 64))
    assert seen == ["Write. poem", "Again. verse", "1 + 1? 2 two", "Twice that? 4 four"]
    found = single(rows, CATEGORIES).models[0]
    assert (found.average.value, found.without_rating) == (8.0, 1)


def test_pairs_are_asked_in_both_orders():
    other = {"81": ["ode", "rhyme"], "111": ["3", "9"]}

    def first_named_ours(requests):
        ours = ("poem", "verse", " 2", " 4")
        users = [request["messages"][1]["content"] for request in requests]
        firsts = [min((user.find(x), x) for x in (*ours, "ode", "rhyme", " 3", " 9") if x in user)[1] for user in users]
        return [Said("[[A]]" if first in ours else "[[B]]") for first in firsts]

    rows = pair_rows(QUESTIONS, (ANSWERS, other), REFERENCES, ("m", "n"), PROMPTS, Judge("j", first_named_ours, 64))
    assert {(row["g1_winner"], row["g2_winner"]) for row in rows} == {("model_1", "model_1")}
    assert pairwise(rows, CATEGORIES).models[0].win_rate.value == 1.0


def test_what_is_missing_is_named():
    def nobody(requests):
        raise AssertionError("asked before everything was there")

    with pytest.raises(ValueError, match=r"question 111 .math. has no reference answer"):
        single_rows(QUESTIONS, ANSWERS, {}, "m", PROMPTS, Judge("j", nobody, 64))
    with pytest.raises(ValueError, match="m has no answer to question 81"):
        single_rows(QUESTIONS, {}, REFERENCES, "m", PROMPTS, Judge("j", nobody, 64))
    with pytest.raises(ValueError, match="have no 'single-v1'"):
        single_rows(QUESTIONS, ANSWERS, REFERENCES, "m", {}, Judge("j", nobody, 64))


def test_fastchats_answers_are_read():
    row = {"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}]}
    assert read_turns([json.loads(json.dumps(row))]) == {"m": {"81": ["a", "b"]}}
    with pytest.raises(ValueError, match="twice"):
        read_turns([row, row])
    with pytest.raises(ValueError, match="two turns"):
        read_turns([{"question_id": 81, "model_id": "m", "choices": [{"turns": ["a"]}]}])


def test_the_judges_name_says_version_wording_and_room():
    judge = Judge("gpt", longer_wins, 64)
    plain = judge.identity("Judge.", [Said("[[A]]"), Said("[[B]]", model="gpt"), None])
    assert plain == "gpt (prompt 581f76da, at most 64 tokens)"
    assert judge.identity("Judge.", [Said("", model="gpt-2026")]).startswith("gpt (served as gpt-2026, prompt")
    assert judge.identity("Judge!", [None]) != plain
    assert unserved(judge.identity("Judge.", [Said("", model="gpt (eu), 2026"), Said("", model="x")])) == plain


@pytest.mark.skipif(not DATA.is_dir(), reason="SPARRING_EVALUATION_DATA names no folder with mt_bench/")
def test_gpt4_was_asked_the_same_to_the_letter():
    def asked(requests):
        users.extend(request["messages"][1]["content"] for request in requests)
        return [None] * len(requests)

    users: list[str] = []
    questions, gaps = read_file(DATA / "mt_bench__question.jsonl"), ["\1", "\2"]
    references = read_turns(read_file(DATA / "mt_bench__reference_answer__gpt-4.jsonl"))["gpt-4"]
    prompts = {row["name"]: row for row in read_file(DATA / "judge_prompts.jsonl")}
    answers = {str(question["question_id"]): gaps for question in questions}
    made = single_rows(questions, answers, references, "m", prompts, Judge("gpt-4", asked, 2048))
    published = read_file(DATA / "gpt4_single_judgments_mistral-orpo-capybara.jsonl.gz")
    seen = {(str(row["question_id"]), row["turn"]): row["user_prompt"] for row in published}
    for row in made:
        pattern = re.sub("\\\\?[\1\2]", "(?s:.*)", re.escape(row["user_prompt"]))
        assert re.fullmatch(pattern, seen.pop((str(row["question_id"]), row["turn"])))
    assert (len(users), seen) == (160, {})
