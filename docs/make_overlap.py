"""Writes the measured tables of docs/evaluation/overlap.md.

    SPARRING_EVALUATION_DATA=my/data python docs/make_overlap.py

Does what `sparring evaluate overlap` does, on the files under `SHIPPED` and `JUDGED` of the folder that
SPARRING_EVALUATION_DATA names; where they come from stands on the page. PandaLM's rows are put together as by
`make_oracles.py`. Leaves out: fetching the files.
"""

from __future__ import annotations

import os
from pathlib import Path

from make_oracles import FILES, panda_pair, read_gz
from tables import table, write_section

from sparring.evaluation.overlap import find_overlap, read_prompts

PAGE, SCRIPT = "evaluation/overlap.md", "make_overlap.py"
ALPACA = {"AlpacaEval": FILES["prompts"]}
MT_BENCH = {"MT-Bench": "mt_bench/mt_bench__question.jsonl"}
SHIPPED = {
    **ALPACA,
    **MT_BENCH,
    "Arena-Hard v0.1": "arena_hard/question_v0.1.jsonl",
    "GSM8K, test": "tasks/gsm8k_test.jsonl.gz",
    "ARC-Challenge, test": "tasks/arc_challenge_test.jsonl.gz",
    "HellaSwag (2,000 of it)": ("tasks/hellaswag_a1000.jsonl.gz", "tasks/hellaswag_b1000.jsonl.gz"),
    "TruthfulQA": "tasks/truthfulqa.jsonl.gz",
    "WinoGrande, validation": "tasks/winogrande_val.jsonl.gz",
    "MMLU, test": "tasks/mmlu_test.jsonl.gz",
}
JUDGED = {
    "PandaLM test set, human labels (half)": FILES["pandalm"],
    "FairEval": FILES["faireval"],
    "LLMBar": FILES["llmbar"],
    **MT_BENCH,
    "LLMEval² (200 of it)": FILES["llmeval2"],
}


def prompts(data: Path, files: str | tuple[str, ...]) -> list[str]:
    """The prompts of one benchmark."""
    if files == FILES["pandalm"]:
        return [panda_pair(row)["prompt"] for row in read_gz(data / FILES["pandalm"])]
    names = (files,) if isinstance(files, str) else files
    return [text for name in names for text in read_prompts(str(data / name)).texts]


def counted(data: Path, train: list[str], benchmarks: dict[str, str | tuple[str, ...]]) -> list[str]:
    """A table of what each benchmark shares with the training prompts."""
    rows = []
    for name, files in benchmarks.items():
        found = find_overlap(train, prompts(data, files))
        rows.append([name, *(str(n) for n in (found.prompts, found.exact, found.overlapping, found.touched))])
    return table(["benchmark", "prompts", "exact", "50 % shared or more", "any 8-gram"], rows)


def main() -> None:
    """Write both tables."""
    data = Path(os.environ["SPARRING_EVALUATION_DATA"])
    shipped, judged = read_prompts("sparring:prompts").texts, prompts(data, FILES["prompts"])
    for name, train, benchmarks in (("shipped", shipped, SHIPPED), ("alpaca-eval", judged, JUDGED)):
        lines = [f"{len(train)} training prompts:", "", *counted(data, train, benchmarks)]
        write_section(PAGE, SCRIPT, lines, name)


if __name__ == "__main__":
    main()
