"""The numbers of a study: each method over its seeds, and every method against every other.

A method's figure is the mean over its seeds, with the smallest and largest beside it: three seeds give a range, not an
interval. Between methods the unit is the prompt, its preferences averaged over seeds first. Leaves out: making the runs
(`study.py`).

    numbers({("inpo", 0): summary}, {0: {("start", "inpo"): {"Why?": 0.4, "How?": 0.7}}})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparring.evaluation.intervals import SHARE, Interval, interval, known_mean
from sparring.report.compare import identity_of, run_row, shared_kl_title
from sparring.report.summary import Summary
from sparring.studies.choice import at_ends, title
from sparring.studies.choice import cells as choice_cells
from sparring.studies.obeyed import ALL, by_group, obeyed
from sparring.studies.obeyed import COLUMNS as OBEYED
from sparring.studies.obeyed import cells as obeyed_cells

Pair = tuple[str, str]
Preferences = dict[str, float]
"""P(first beats second) by prompt; NaN where nothing was judged"""
Tables = dict[Pair, Preferences]
PARTIAL = "Scores on part of a benchmark do not compare with published ones."
MEASURED = ("tokens", "finished_share", "kl", "gap", "seconds")


def numbers(summaries: Mapping[tuple[str, int], Summary], tables: Mapping[int, Tables]) -> dict[str, Any]:
    """Plain data: `methods` with their seeds' figures, and `contests` between them."""
    methods = []
    for name in dict.fromkeys(name for name, _ in summaries):
        own = {seed: summary for (n, seed), summary in summaries.items() if n == name}
        methods.append(_method(name, own))
    seeds = sorted({seed for _, seed in summaries})
    return {"methods": methods, "contests": _contests(tables), "obeyed": obeyed(summaries), "seeds": seeds}


def _method(name: str, own: Mapping[int, Summary]) -> dict[str, Any]:
    rows = [{**run_row(name, s), "seed": seed} for seed, s in own.items()]
    for row in rows:
        row["gap"] = row["gap"] and row["gap"].value
    judges: dict[str, dict[str, Any]] = {}
    for summary in own.values():
        for judgment in summary["judgments"]:
            judge = judges.setdefault(
                identity_of(judgment),
                {"name": judgment["name"], "seen_in_training": False, "win_rates": [], "failed": 0},
            )
            judge["seen_in_training"] |= judgment["seen_in_training"]
            judge["win_rates"].append(judgment["win_rate"].value)
            judge["failed"] += judgment["failed"]
    for judge in judges.values():
        judge["over_seeds"] = spread(judge["win_rates"])
    return {
        "name": name,
        "algorithm": rows[0]["algorithm"],
        "kl_title": rows[0]["kl_title"],
        "seeds": list(own),
        "judges": judges,
        **{key: spread([row[key] for row in rows]) for key in MEASURED},
    }


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean, smallest and largest over seeds; None where no seed has a value."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": float(np.mean(known)), "least": float(min(known)), "most": float(max(known)), "seeds": len(known)}


def _contests(tables: Mapping[int, Tables]) -> list[dict[str, Any]]:
    """Mean preference of the first over the second with its interval over prompts, seeds averaged first."""
    pairs = dict.fromkeys(pair for of_seed in tables.values() for pair in of_seed)
    contests = []
    for a, b in pairs:
        by_seed = [of_seed[a, b] for of_seed in tables.values() if (a, b) in of_seed]
        prompts = dict.fromkeys(prompt for one in by_seed for prompt in one)
        means = [known_mean(np.array([one[prompt] for one in by_seed if prompt in one])) for prompt in prompts]
        known = [p for p in means if not np.isnan(p)]
        if known:
            seeds = [known_mean(np.array([*one.values()])) for one in by_seed]
            contests.append(
                {"a": a, "b": b, "preference": interval(known, SHARE), "by_seed": seeds, "prompts": len(known)}
            )
    return contests


def markdown(result: Mapping[str, Any]) -> str:
    """The study's numbers as tables in Markdown."""
    methods = result["methods"]
    judges = judges_of(methods)
    wins = [f"wins against start, {judge_head(judge, methods)}" for judge in judges]
    header = ["method", *wins, "tokens", "finished", shared_kl_title(methods), "gap", "minutes"]
    forms = {"tokens": "{:.0f}", "finished_share": "{:.0%}", "kl": "{:.2f}", "gap": "{:.3f}"}
    rows = [
        [
            method["name"],
            *(_shown(method["judges"].get(judge, {}).get("over_seeds"), "{:.1%}") for judge in judges),
            *(_shown(method[key], form) for key, form in forms.items()),
            _shown(method["seconds"] and {k: v / 60 for k, v in method["seconds"].items()}, "{:.1f}"),
        ]
        for method in methods
    ]
    seeds = ", ".join(map(str, result["seeds"]))
    averaged = f"Seeds {seeds}: mean (smallest to largest)." if len(result["seeds"]) > 1 else f"One seed, {seeds}."
    parts = [f"{averaged}\n", _table(header, rows), _judge_lines(methods)]
    if choice := result.get("choice"):
        parts += [f"\n{title(choice)}.\n", _table(*choice_cells(choice)), f"\n{at_ends(choice)}\n"]
    for group, rates in by_group(result.get("obeyed", [])).items():
        which = "all prompts" if group == ALL else f"the prompts of {group!r}"
        heading = f"Rules passed, checked by code, of {which}, in %; intervals are over prompts, for these policies."
        parts += [f"\n{heading}\n", _table(OBEYED, [obeyed_cells(row) for row in rates])]
    if result["contests"]:
        several = any(len(contest["by_seed"]) > 1 for contest in result["contests"])
        ranges = "95 % interval over prompts" + (" and its range over the seeds" if several else "")
        warning = "Intervals are over prompts, for these seeds' policies; another seed may move a cell by more."
        lone = f"{result['answered_by_one_side']} prompts had one side's answer only."
        lost = f"{result['failed']} comparisons failed, {lone}"
        heading = (
            f"Row against column: mean preference in %, with its {ranges}, under `{result['judge']}`. {warning} {lost}"
        )
        parts += [f"\n{heading}\n", _matrix(result["contests"])]
    if rows := result.get("tasks"):
        parts += ["\nLeaderboard tasks, in %, with 95 % intervals over documents.\n", _task_table(rows)]
        if is_partial(rows):
            parts.append(f"\n{PARTIAL}\n")
    parts += [f"\n{s['method']}, seed {s['seed']}, stopped itself: {s['reason']}\n" for s in result["stopped"]]
    return "\n".join(parts)


def _judge_lines(methods: Sequence[Mapping[str, Any]]) -> str:
    """A line per judge, with the number of its verdicts that failed."""
    lines = []
    for judge in judges_of(methods):
        failed = sum(method["judges"][judge]["failed"] for method in methods if judge in method["judges"])
        lines.append(f"- {judge_head(judge, methods)}: `{judge}`, {failed} verdicts failed\n")
    return "\n" + "".join(lines)


def judges_of(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """The identities of all judges of the methods, each once."""
    return list(dict.fromkeys(judge for method in methods for judge in method["judges"]))


def is_partial(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a task was scored on a part of its documents only."""
    return any(row["documents"] != row["total"] for row in rows)


def judge_head(judge: str, methods: Sequence[Mapping[str, Any]]) -> str:
    """A judge's name (numbered where several have it), and which methods' training never asked the judge."""
    judged = [method for method in methods if judge in method["judges"]]
    names = {identity: one["name"] for method in methods for identity, one in method["judges"].items()}
    alike = [identity for identity, name in names.items() if name == names[judge]]
    name = names[judge] if len(alike) == 1 else f"{names[judge]} {alike.index(judge) + 1}"
    unseen = [method["name"] for method in judged if not method["judges"][judge]["seen_in_training"]]
    if not unseen:
        return name
    return f"{name} (unseen)" if len(unseen) == len(judged) else f"{name} (unseen by {', '.join(unseen)})"


def _matrix(contests: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for contest in contests for name in (contest["a"], contest["b"])))
    cells: dict[Pair, str] = {}
    for contest in contests:
        of_a = contest["preference"].scaled(100)
        of_b = Interval(100 - of_a.value, 100 - of_a.high, 100 - of_a.low)
        seeds = [100 * one for one in contest["by_seed"] if not np.isnan(one)]
        cells[contest["a"], contest["b"]] = _cell(of_a, seeds)
        cells[contest["b"], contest["a"]] = _cell(of_b, [100 - one for one in seeds])
    return _table(["", *names], [[row, *(cells.get((row, column), "") for column in names)] for row in names])


def _cell(percent: Interval, seeds: Sequence[float]) -> str:
    over = f"; seeds {min(seeds):.0f} to {max(seeds):.0f}" if len(seeds) > 1 else ""
    return f"{percent.value:.0f} ({percent.span('.0f')}{over})"


def _task_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["task", "policy", "seeds", "score", "minus start", "p"]
    lines = []
    for of_task in by_task(rows):
        first = of_task[0]
        lines.append([task_head(first), "start", "", f"{first['before'].scaled(100):.1f}", "", ""])
        for row in of_task:
            score, gain = f"{row['after'].scaled(100):.1f}", f"{row['difference'].scaled(100):+.1f}"
            lines.append(["", row["method"], str(row["seeds"]), score, gain, f"{row['p']:.2g} ({row['test']})"])
    return _table(header, lines)


def by_task(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows of each task, in the order of their first rows."""
    return [[row for row in rows if row["task"] == task] for task in dict.fromkeys(row["task"] for row in rows)]


def task_head(row: Mapping[str, Any]) -> str:
    """A task with its metric, and how much of it was scored."""
    return f"{row['task']} ({row['metric']}, {row['shots']} shots, {row['documents']} of {row['total']})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(line) + " |\n" for line in [header, ["---"] * len(header), *rows])


def _shown(over_seeds: Mapping[str, float] | None, form: str) -> str:
    if over_seeds is None:
        return "-"
    mean, least, most = (form.format(over_seeds[key]) for key in ("mean", "least", "most"))
    return mean if least == most else f"{mean} ({least} to {most})"
