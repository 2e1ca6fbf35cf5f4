"""Which value of a setting each method of a study takes: the one whose run did best on prompts that no result uses.

Rules passed decide where code can check some of those prompts (the others then count for nothing), else wins against
the start under the training oracle. The first of equal values is taken. Intervals are shown and decide nothing: where
those of two values overlap, another seed may choose the other. Leaves out: making the runs (`study.py`).

    recipes = choice.settled(values_of(choose(choice, summaries, stopped)))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparring.data.examples import stream_examples
from sparring.evaluation.intervals import Interval
from sparring.models.messages import prompt_text
from sparring.recipe.datasets import DatasetConfig
from sparring.recipe.reading import load_recipe
from sparring.report.summary import Summary
from sparring.runtime.layout import RECIPE
from sparring.studies.obeyed import ALL, obeyed
from sparring.studies.reading import Choice, has_field, try_name, value_of


def check_choice(choice: Choice) -> None:
    """Look at the prompts that choose, before anything runs.

    Raises:
        ValueError: some are prompts of the results, or neither code nor an oracle says which value is better; or the
            recipe has an environment, whose roles have a reward each.
    """
    one = next(iter(choice.outcomes.values()))
    if one.environment is not None:
        raise ValueError(
            "choose: not with an environment, whose roles have a reward each. Try values by --set in studies of their "
            "own, and leave choose out."
        )
    ours, results = _prompts(choice.config.held_out), _prompts(one.data.held_out)
    if both := ours.keys() & results.keys():
        raise ValueError(
            f"choose.held_out: {len(both)} of its {len(ours)} prompts are prompts of data.held_out too, so that the "
            "results would choose themselves. Give other prompts."
        )
    if one.oracle is None and not any(ours.values()):
        raise ValueError(
            "choose.held_out: no prompt has a check, and the recipe has no oracle, so that nothing says which value is "
            "better. Give prompts with checks, or an oracle."
        )


def _prompts(config: DatasetConfig) -> dict[str, bool]:
    """By prompt, whether code can check its answers."""
    return {prompt_text(one.messages): bool(one.check) for one in stream_examples(config, (), Counter())}


def choose(
    choice: Choice, summaries: Mapping[tuple[str, int], Summary], stopped: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Plain data: `field`, `seed`, `by` (what decided), and `rows`, one per method and value, with its score's interval
    over prompts (None where its run stopped itself) and whether it is `chosen`.

    Raises:
        ValueError: every run of a method stopped itself, or nothing says which value is better.
    """
    by, scores = _scores(choice, summaries)
    reasons = {one["method"]: one["reason"] for one in stopped}
    rows: list[dict[str, Any]] = []
    for method in dict.fromkeys(name for name, *_ in choice.outcomes):
        own = {value: scores.get(try_name(method, value)) for value in choice.config.values}
        known = {value: score.value for value, score in own.items() if score is not None}
        if not known:
            lines = "; ".join(f"{value:g}: {reasons.get(try_name(method, value), 'nothing checked')}" for value in own)
            raise ValueError(
                f"choose: every run of method {method} stopped itself, whatever {choice.config.field} was, so that "
                f"none can be chosen. Give other values. {lines}"
            )
        best = max(known, key=lambda value: known[value])
        rows += [{"method": method, "value": v, "score": s, "chosen": v == best} for v, s in own.items()]
    return {"field": choice.config.field, "seed": choice.config.seed, "by": by, "rows": rows}


def _scores(choice: Choice, summaries: Mapping[tuple[str, int], Summary]) -> tuple[str, dict[str, Interval]]:
    """What is scored, in words, and the score of each run's final policy."""
    checked = [row for row in obeyed(summaries) if row["group"] == ALL]
    if checked:
        return f"rules passed of {checked[0]['prompts']} prompts", {row["method"]: row["final"] for row in checked}
    if summaries and next(iter(choice.tries.values())).oracle is None:
        raise ValueError(
            "choose.held_out: none of its prompts that were evaluated has a check, and the recipe has no oracle. Give "
            "more prompts with checks, or raise evaluation.prompts."
        )
    judgments = {name: summary["judgments"][0] for (name, _), summary in summaries.items()}
    judge = next((judgment["name"] for judgment in judgments.values()), "")
    return f"wins against start, {judge}", {name: judgment["win_rate"] for name, judgment in judgments.items()}


def refuse_stored_values(choice: Choice, folders: Mapping[tuple[str, int], Path], chosen: Mapping[str, float]) -> None:
    """Raise ValueError where a stored run of the study has another value than its method chose.

    Before anything is `chosen`: another one than those that are tried.
    `run` would go on with it at the new value, so that its rounds would have one each.
    """
    for (method, seed), folder in folders.items():
        if not (folder / RECIPE).is_file():
            continue
        stored = load_recipe(folder / RECIPE).resolved()
        value = value_of(stored, choice.config.field) if has_field(stored, choice.config.field) else None
        wanted = (chosen[method],) if chosen else choice.config.values
        if value not in wanted:
            now = " or ".join(f"{one:g}" for one in wanted)
            raise ValueError(
                f"choose: method {method}, seed {seed}, was run with {choice.config.field} = {value}, and would go on "
                f"with {now}. Give another --out; a copy of this one's folder choice there keeps what was tried."
            )


def values_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Each method's value."""
    return {row["method"]: row["value"] for row in result["rows"] if row["chosen"]}


def title(result: Mapping[str, Any]) -> str:
    """What a table of choices shows."""
    return (
        f"{result['field']} of each method, the chosen value marked *, by {result['by']} in % with 95 % intervals over "
        f"prompts that no result uses, seed {result['seed']}"
    )


def cells(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header, and a row per method: the score of each value with its interval, the chosen one marked."""
    rows = result["rows"]
    values, methods = ([*dict.fromkeys(row[key] for row in rows)] for key in ("value", "method"))
    lines = [[method, *(_cell(row) for row in rows if row["method"] == method)] for method in methods]
    return ["method", *(f"{value:g}" for value in values)], lines


def _cell(row: Mapping[str, Any]) -> str:
    if row["score"] is None:
        return "stopped"
    score = row["score"].scaled(100)
    return f"{score.value:.1f} ({score.span('.0f')}){' *' * row['chosen']}"


def at_ends(result: Mapping[str, Any]) -> str:
    """A sentence that names the methods whose value is the least or the largest tried; empty where none is."""
    values = [row["value"] for row in result["rows"]]
    names = [name for name, value in values_of(result).items() if value in (min(values), max(values))]
    return f"At an end of the values tried, so that a better one may lie beyond: {', '.join(names)}." * bool(names)
