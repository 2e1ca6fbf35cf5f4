"""IFEval's numbers against counts by hand, files in every form that is around, and files that cannot be scored."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import sparring
from conftest import write_jsonl
from sparring.contests import ifeval_folder
from sparring.data import evaluation_only
from sparring.evaluation.ifeval import difference, judge, read_ifeval, scores, shared
from sparring.evaluation.intervals import DIFFERENCE, SHARE, clustered_mean, interval
from sparring.runtime.progress import Progress

WORDS, COMMA, QUOTE = "length_constraints:number_words", "punctuation:no_comma", "startend:quotation"
FEW = {"num_words": 4, "relation": "less than"}


def row(key: int, prompt: str, **kinds: dict[str, Any]) -> dict[str, Any]:
    names = {"words": WORDS, "comma": COMMA, "quote": QUOTE}
    ids = [names[kind] for kind in kinds]
    return {"key": key, "prompt": prompt, "instruction_id_list": ids, "kwargs": list(kinds.values())}


ROWS = [row(1, "one", words=FEW, comma={}), row(2, "two", comma={}), row(3, "three", words=FEW, comma={}, quote={})]
TEXTS = {"one": "Sure, here:\nblue sky", "two": "a, b", "three": '"so, be it"'}
STRICT, LOOSE = [0, 0, 0, 1, 0, 1], [1, 1, 0, 1, 0, 1]
OWNER = np.array([0, 0, 1, 2, 2, 2])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "input_data.jsonl", ROWS)


def responses(path: Path, texts: dict[str, Any]) -> Path:
    return write_jsonl(path, [{"prompt": prompt, "response": text} for prompt, text in texts.items()])


def test_scores_are_the_shares_of_prompts_and_instructions(data):
    found = scores(judge(read_ifeval(data), TEXTS))
    assert found["prompt_strict"] == interval([0, 0, 0], SHARE)
    assert found["prompt_loose"] == interval([1, 0, 0], SHARE)
    for reading, obeyed in (("strict", STRICT), ("loose", LOOSE)):
        assert found[f"instruction_{reading}"] == clustered_mean(np.array(obeyed, dtype=float), OWNER, SHARE)
    kinds = {
        kind: (one["strict"].value, one["loose"].value, one["strict"].count) for kind, one in found["by_kind"].items()
    }
    assert kinds == {WORDS: (1 / 2, 1, 2), COMMA: (0, 1 / 3, 3), QUOTE: (1, 1, 1)}


def test_differences_are_paired_by_prompt(data):
    prompts = read_ifeval(data)
    after = {**TEXTS, "two": "a b", "one": "blue sky"}
    found = difference(judge(prompts, TEXTS), judge(prompts, after))
    assert found["prompt_strict"]["difference"] == interval([1, 1, 0], DIFFERENCE)
    assert (found["prompt_strict"]["gained"], found["prompt_strict"]["lost"], found["prompt_strict"]["p"]) == (
        2,
        0,
        0.5,
    )
    change = np.array([1, 1, 1, 0, 0, 0], dtype=float)
    assert found["instruction_strict"]["difference"] == clustered_mean(change, OWNER, DIFFERENCE)
    assert (found["instruction_strict"]["gained"], found["instruction_strict"]["lost"]) == (3, 0)
    assert found["by_kind"][COMMA]["strict"].value == pytest.approx(2 / 3)
    assert difference(judge(prompts, after), judge(prompts, after))["instruction_loose"]["p"] == 1


def test_only_prompts_that_both_answered_are_compared(data):
    prompts = read_ifeval(data)
    one, other = {"one": "a", "two": "b"}, {"two": "c", "three": "d", "four": "e"}
    assert shared(prompts, [one, other]) == [{"two": "b"}, {"two": "c"}]
    with pytest.raises(ValueError, match="no prompt of the 3 was answered by both"):
        shared(prompts, [{"one": "a"}, {"two": "b"}])


def test_the_command_scores_files_of_every_form(tmp_path, data):
    texts = TEXTS.items()
    files = [
        responses(tmp_path / "input_response_data_gpt.jsonl", TEXTS),
        write_jsonl(tmp_path / "ours.jsonl", [{"instruction": p, "output": t, "generator": "g"} for p, t in texts]),
        write_jsonl(tmp_path / "samples.jsonl", [{"doc": {"prompt": p}, "filtered_resps": [t]} for p, t in texts]),
        write_jsonl(tmp_path / "resps.jsonl", [{"doc": {"prompt": p}, "resps": [[t]]} for p, t in texts]),
    ]
    found = [json.loads(sparring("evaluate", "ifeval", f, "--data", data, "--json").out) for f in files]
    assert [one["scores"] for one in found] == [found[0]["scores"]] * len(files)
    assert found[0]["scores"]["after"]["prompt_loose"]["value"] == pytest.approx(1 / 3)
    assert (found[0]["prompts"], found[0]["instructions"], found[0]["whole"]) == (3, 6, False)
    assert set(found[0]["files"]) == {str(data), str(files[0])}


def test_only_the_published_prompts_compare_with_published_scores(tmp_path, data, monkeypatch):
    """Any file of 541 prompts had passed as the benchmark."""
    monkeypatch.setattr(ifeval_folder, "COUNT", 3)
    folder = ifeval_folder.IfevalFolder(None, Progress())
    files = {"after": str(responses(tmp_path / "after.jsonl", TEXTS))}
    assert folder.play(files, read_ifeval(data), {}, seed=0)["whole"] is False
    digests = frozenset(hashlib.sha256(prompt.encode()).hexdigest()[:16] for prompt in TEXTS)
    monkeypatch.setattr(evaluation_only, "_digests", lambda: digests)
    assert folder.play(files, read_ifeval(data), {}, seed=0)["whole"] is True


def test_two_files_are_shown_with_their_difference_in_80_columns(tmp_path, data):
    before = responses(tmp_path / "before.jsonl", TEXTS)
    after = responses(tmp_path / "after.jsonl", {**TEXTS, "two": "a b", "other": "x"})
    words = ("evaluate", "ifeval", after, "--before", before, "--data", data, "--out", tmp_path / "out")
    shown = sparring(*words, columns=80)
    assert shown.code == 0, shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    assert re.search(r"prompts, strict +0.0% +33.3% +\+33.3 .* 1 +1, 0\n", shown.out)
    assert "after: 1 left out: answers to other prompts" in shown.out
    assert "not IFEval's 541 prompts: these scores do not compare" in shown.out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["difference"]["prompt_strict"]["gained"] == 1


def test_a_table_of_our_own_with_checks_is_scored_too(tmp_path):
    rows = [{"prompt": "p", "check": [{"rule": "one_word"}, {"rule": "lowercase"}]}, {"prompt": "q", "check": None}]
    prompts = read_ifeval(write_jsonl(tmp_path / "mine.jsonl", rows))
    assert dict(prompts.left_out) == {"prompt without an instruction": 1}
    assert scores(judge(prompts, {"p": "Blue"}))["instruction_strict"].value == 0.5


def test_the_hubs_table_gives_the_same_instructions(tmp_path):
    """Its kwargs hold every key, null but for the kind's own."""
    keys = dict.fromkeys(("num_words", "relation", "keywords", "letter"))
    hub = [{**one, "kwargs": [{**keys, **own} for own in one["kwargs"]]} for one in ROWS]
    ours, theirs = (read_ifeval(write_jsonl(tmp_path / f"{n}.jsonl", rows)) for n, rows in enumerate((ROWS, hub)))
    assert ours.instructions == theirs.instructions


def test_repeated_prompts_count_once_and_contradictions_are_told(tmp_path):
    comma = {"key": 9, "prompt": "c", "instruction_id_list": ["startend:end_checker", COMMA]}
    rows = [*ROWS, ROWS[0], {**comma, "kwargs": [{"end_phrase": "Well, bye."}, {}]}]
    prompts = read_ifeval(write_jsonl(tmp_path / "data.jsonl", rows))
    assert (len(prompts.prompts), prompts.contradictory, dict(prompts.left_out)) == (4, 1, {"repeated prompt": 1})
    assert len(read_ifeval(write_jsonl(tmp_path / "data.jsonl", rows), limit=2).prompts) == 2


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"prompt": "p", "text": "t"}], "needs the columns 'instruction_id_list' and 'kwargs', or 'check'; it has"),
        ([{"text": "p", "instruction_id_list": [COMMA], "kwargs": [{}]}], "needs a column 'instruction' or 'prompt'"),
        ([{**ROWS[1], "kwargs": None}], r"row 1 \(key 2\): .* lists of one length, not 1 and None"),
        ([ROWS[1], {**ROWS[0], "kwargs": [{}, {}]}], r"row 2 \(key 1\): .*'num_words', 'relation'\]"),
        ([{**ROWS[1], "instruction_id_list": ["no_comma"]}], "unknown rule 'no_comma'"),
        ([ROWS[1], {**ROWS[1], "instruction_id_list": [QUOTE]}], "row 2: 'two' stands there twice, with other"),
        ([{**ROWS[1], "prompt": None}], r"holds no prompt with an instruction \(1 x instruction missing or empty"),
    ],
)
def test_files_of_prompts_that_cannot_be_scored(tmp_path, rows, says):
    path, mine = write_jsonl(tmp_path / "data.jsonl", rows), responses(tmp_path / "mine.jsonl", TEXTS)
    outcome = sparring("evaluate", "ifeval", mine, "--data", path)
    assert outcome.code == 2
    assert re.search(says, outcome.err.replace("\n", " ")), outcome.err


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"other": "x"}, "no prompt of the 3 was answered|none of the 3 prompts is answered"),
        ({"one": None}, "no usable row"),
    ],
)
def test_answers_that_cannot_be_scored(tmp_path, data, texts, says):
    outcome = sparring("evaluate", "ifeval", responses(tmp_path / "mine.jsonl", texts), "--data", data)
    assert outcome.code == 2
    assert re.search(says, outcome.err.replace("\n", " ")), outcome.err


def test_missing_and_empty_answers_are_told(tmp_path, data):
    mine = responses(tmp_path / "mine.jsonl", {"one": "", "two": "a b"})
    shown = sparring("evaluate", "ifeval", mine, "--data", data)
    assert "warning: mine has no answer to 1 of 3 prompts: not counted" in shown.out
    assert "mine: 1 answers are empty: they obey nothing" in shown.out


def test_a_policy_needs_a_folder(tiny_model, data):
    outcome = sparring("evaluate", "ifeval", tiny_model, "--data", data)
    assert (outcome.code, "--out: missing" in outcome.err) == (2, True)
