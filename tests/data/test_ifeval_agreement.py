"""Our 25 kinds of instruction beside lm-eval's, on answers made by code and on real ones: no verdict differs."""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest

from ifeval_answers import answer, as_row
from sparring.data.checks import check_of_row, obeyed
from sparring.data.instructions.ifeval import IFEVAL

DATA = Path(os.environ.get("SPARRING_EVALUATION_DATA", "no folder"))
"""the folder of docs/make_alpaca_eval.py"""
PROMPTS, OUTPUTS = DATA / "ifeval" / "input_data.jsonl", DATA / "alpaca_eval" / "ae2_outputs_preferences.parquet"
RANDOM_LETTER = "#!"
"""letters for which lm-eval draws another one at random"""


@pytest.fixture(scope="module")
def lm_eval(tmp_path_factory):
    """lm-eval's checkers, with NLTK's English model written where NLTK looks for it, and langdetect's seed set."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    nltk, langdetect = pytest.importorskip("nltk"), pytest.importorskip("langdetect")
    from punkt import load_model

    folder, model = tmp_path_factory.mktemp("nltk"), load_model("english")
    tables = {
        "abbrev_types.txt": sorted(model.abbrev_types),
        "sent_starters.txt": sorted(model.sent_starters),
        "collocations.tab": [f"{one}\t{other}" for one, other in sorted(model.collocations)],
        "ortho_context.tab": [f"{word}\t{flags}" for word, flags in model.ortho_context.items()],
    }
    english = folder / "tokenizers" / "punkt_tab" / "english"
    english.mkdir(parents=True)
    for name, lines in tables.items():
        (english / name).write_text("\n".join(lines), encoding="utf-8")
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


def agree(lm_eval: Any, kind: str, number: int) -> None:
    rng, obeying = random.Random(kind), 0
    for _ in range(number):
        own, text = answer(kind, rng)
        for ours, theirs in both(lm_eval, as_row(kind, own), text):
            assert ours == theirs, (kind, own, text)
            obeying += ours[0]
    assert 0.02 < obeying / (2 * number) < 0.98, kind  # the cases tell the verdicts apart


@pytest.mark.parametrize("kind", IFEVAL)
def test_verdicts_are_lm_evals(lm_eval, kind: str):
    agree(lm_eval, kind, 25)


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
        drawn = [own.get("letter") not in (*RANDOM_LETTER,) for own in row["kwargs"]]
        for text in rng.sample(texts, 10):
            for ours, theirs in both(lm_eval, row, text):
                assert [o for o, d in zip(ours, drawn, strict=True) if d] == [
                    t for t, d in zip(theirs, drawn, strict=True) if d
                ], (row["key"], text)
