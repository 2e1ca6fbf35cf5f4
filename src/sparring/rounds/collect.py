"""A preference set from prompts, a policy and an oracle: sampled, judged and paired once, as a file that others read.

Runs the stages of `data.collect` in a folder of their own, so a killed collection goes on where it was. Leaves out:
training on the set, which is a run whose `data.train` is the file.

    collect(load_collection("demo"), Path("collected/demo"), "text")
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import transformers

from sparring.models.chat import Message
from sparring.recipe.reading import parse_recipe, read_recipe
from sparring.recipe.recipe import Recipe
from sparring.rounds.run import Run, adopt_recipe
from sparring.rounds.store import Made, Store
from sparring.runtime.files import read_table, write_text
from sparring.runtime.layout import TRAIN
from sparring.runtime.progress import Progress

Form = Literal["text", "messages"]
Row = dict[str, Any]
FILE = "preferences.jsonl"
CUT_OFF = "a response was cut off"


def load_collection(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of which model, data.train, data.collect, oracle, sampling and seed count; the others may be missing.

    Raises:
        ValueError: as `load_recipe`.
    """
    plain = read_recipe(path, overrides)
    kept = {key: plain[key] for key in ("model", "data", "oracle", "seed", "sampling") if key in plain}
    if isinstance(data := kept.get("data"), dict) and "train" in data:
        kept["data"] = {"collect": {}, **{k: v for k, v in data.items() if v is not None}, "held_out": data["train"]}
    kept["algorithm"] = {"name": "dpo", "source": "pairs"}
    return parse_recipe({**kept, "rounds": 1})


def collect(
    recipe: Recipe, out: Path, form: Form, keep_cut_off: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Start or resume a collection; returns its facts: counts of prompts, pairs and drops, and the file.

    Raises:
        ValueError: the recipe, the data or the folder is not usable, or `form` cannot hold the prompts.
        OracleError: too many verdicts failed; what was judged is kept.
    """
    progress = progress or Progress()
    transformers.utils.logging.disable_progress_bar()
    with Store(out).locked():
        store = Store(out)
        adopt_recipe(store, recipe, progress)
        store.check()
        run = Run(recipe, store, progress)
        run.collect_only()
        inputs = {
            "pairs": store.output_hash("collect/pair", "collect/pairs.parquet"),
            "form": form,
            "cut_off": "kept" if keep_cut_off else "dropped",
        }
        facts = store.stage("collect/write", inputs, lambda: write(store, form, keep_cut_off))
    return {**facts, "file": str(out / FILE)}


def write(store: Store, form: Form, keep_cut_off: bool) -> Made:
    """preferences.jsonl: one line per pair, in the columns that trainers read."""
    examples = {row["example"]: row for row in read_table(store.root / TRAIN)}
    samples = read_table(store.root / "collect/samples.parquet")
    cut_off = {(s["example"], tuple(s["token_ids"])) for s in samples if s["finish_reason"] == "length"}
    lines: list[str] = []
    dropped: Counter[str] = Counter()
    for row in read_table(store.root / "collect/pairs.parquet"):
        for pair in row["pairs"]:
            answers = row["responses"][pair["winner"]], row["responses"][pair["loser"]]
            # As text a cut-off answer is not known to be one: a trainer would teach the policy to end there.
            if not keep_cut_off and any((row["example"], tuple(r["token_ids"])) in cut_off for r in answers):
                dropped[CUT_OFF] += 1
                continue
            chosen, rejected, preference = *answers, pair["preference"]
            # Some pairings draw their labels; who reads the file takes them for the oracle's opinion.
            if preference < 0.5:
                chosen, rejected, preference = rejected, chosen, 1.0 - preference
            plain = _row(examples[row["example"]], chosen, rejected, preference, form)
            lines.append(json.dumps(plain, ensure_ascii=False) + "\n")
    if not lines:
        raise ValueError(
            f"no pair is left: {dropped[CUT_OFF]} x {CUT_OFF}. Raise sampling.max_new_tokens, or give --keep-cut-off."
        )
    write_text(store.path(FILE), "".join(lines))
    return Made((FILE,), {"prompts": len(examples), "pairs": len(lines), "dropped": dict(dropped)})


def _row(example: Row, chosen: Row, rejected: Row, preference: float, form: Form) -> Row:
    return {
        **_columns(example["messages"], chosen["text"], rejected["text"], form),
        "preference": preference,
        "chosen_win_rate": _number(chosen["win_rate"]),
        "rejected_win_rate": _number(rejected["win_rate"]),
        "example": example["example"],
    }


def _columns(messages: list[Message], chosen: str, rejected: str, form: Form) -> Row:
    if form == "messages":
        answers = {"chosen": chosen, "rejected": rejected}
        return {
            "prompt": messages,
            **{name: [{"role": "assistant", "content": text}] for name, text in answers.items()},
        }
    if len(messages) > 1:
        raise ValueError(
            "--form text: some prompts have several messages, which one text cannot hold. Give --form messages."
        )
    return {"prompt": messages[0]["content"], "chosen": chosen, "rejected": rejected}


def _number(value: float | None) -> float | None:
    """Not every pairing knows every win rate, and JSON has no NaN."""
    return None if value is None or value != value else value
