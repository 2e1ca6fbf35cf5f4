"""Several runs side by side: what they won against the common start, what it cost, and how they differ.

Only judgments that every run has, by the judge's identity, stand in the comparison, those that no training asked first;
the others are named and left out. Runs from other starts or on other held-out prompts do not compare. Leaves out:
playing the runs' policies against each other (`sparring evaluate head-to-head`).

    comparison = gather({"inpo": summary, "dpo": other}); write_comparison(comparison, Path("comparison.html"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparring.evaluation.head_to_head import FEWEST
from sparring.evaluation.intervals import DIFFERENCE, interval
from sparring.evaluation.paired import sign_flip
from sparring.report.html import page
from sparring.report.numbers import THIN, percent, span, told_apart
from sparring.report.panels import kl_title
from sparring.report.summary import Judgment, Summary
from sparring.runtime.files import write_text

START = "0/play"
SAMPLED = ("engine", "temperature", "top_p", "max_new_tokens", "precision")
"""fields of a recipe's `sampling` on which answers depend"""


def gather(runs: Mapping[str, Summary]) -> dict[str, Any]:
    """The comparison as plain data.

    Raises:
        ValueError: fewer than two runs; other starts, held-out prompts or sample counts; or no judge in common.
    """
    if len(runs) < 2:
        raise ValueError("a comparison needs at least two runs.")
    _refuse_other(runs, "start from other weights", lambda s: s["lock"]["weights"].get(START))
    _refuse_other(runs, "were evaluated on other held-out prompts", lambda s: [one["prompt"] for one in s["samples"]])
    # A gap is against the best of these answers, so it grows with their number.
    other = "have other numbers of answers per prompt (evaluation.samples)"
    _refuse_other(runs, other, lambda s: s["recipe"]["evaluation"]["samples"])
    shared, left_out = _shared_judgments(runs)
    differences, unpaired = _differences(runs, shared)
    comparison = {
        "runs": [run_row(name, summary) for name, summary in runs.items()],
        "judgments": shared,
        "left_out": [*left_out, *unpaired],
        "differences": differences,
        "prompts": len(next(iter(runs.values()))["samples"]),
    }
    return {**comparison, "answer": " ".join([answer(comparison), *sampled_otherwise(runs)])}


def sampled_otherwise(runs: Mapping[str, Summary]) -> list[str]:
    """A caution where runs sampled with other settings: each run's start is its own sample of the same weights."""
    settings = [summary["recipe"].get("sampling", {}) for summary in runs.values()]
    fields = [field for field in SAMPLED if len({one.get(field) for one in settings}) > 1]
    differing = "; ".join(f"{field} {', '.join(str(one.get(field)) for one in settings)}" for field in fields)
    if not differing:
        return []
    return [
        f"Caution: {', '.join(runs)} were sampled with other settings ({differing}), their starts too: part of a "
        "difference may be the sampling's."
    ]


def answer(comparison: Mapping[str, Any]) -> str:
    """Which run gained more over the start, in a sentence, under the first judge: one unseen in training, if any."""
    first = comparison["runs"][0]["name"]
    if not comparison["judgments"]:
        return "Which run is better is not answered here: no judge was asked. The runs compare by behaviour and cost."
    if not comparison["differences"]:
        return "Which run gained more is not answered here: no shared judge's preferences are stored by prompt."
    under = comparison["differences"][0]
    trained_on = "which a run was trained on, so that this need not be quality"
    seen = trained_on if under["seen_in_training"] else "unseen in training"
    rates = next(one["win_rates"] for one in comparison["judgments"] if one["identity"] == under["identity"])
    no_gain = [
        f"{run['name']} wins {percent(rate.value, rate)} ({span(rate)}) of comparisons with the start"
        for run, rate in zip(comparison["runs"], rates, strict=True)
        if rate.low <= 0.5
    ]
    asked = f"Which run gained more over the common start? Under {under['judge']}, {seen}"
    if len(no_gain) == len(rates):  # first: of two runs that lost to the start, neither gained
        order = "; ".join(_in_words(one, first, "did better", "did worse") for one in under["runs"])
        return f"{asked}: none of them is shown to gain ({'; '.join(no_gain)}). Between them: {order}."
    order = "; ".join(_in_words(one, first, "gained more", "gained less") for one in under["runs"])
    return f"{asked}: {order}." + (f" Not shown to gain at all: {'; '.join(no_gain)}." if no_gain else "")


def _in_words(one: Mapping[str, Any], first: str, better: str, worse: str) -> str:
    difference = one["difference"]
    if difference is None or one["prompts"] < FEWEST:
        return f"too few prompts to tell {one['name']} from {first} ({one['prompts']}, at least {FEWEST} are needed)"
    points = difference.scaled(100)
    numbers = f"({points.value:+.1f} points, {points.span('+.1f')})"
    if difference.contains(0):
        return f"no difference between {one['name']} and {first} is shown {numbers}"
    return f"{one['name']} {better if difference.value > 0 else worse} than {first} {numbers}"


def _refuse_other(runs: Mapping[str, Summary], what: str, value_of: Callable[[Summary], Any]) -> None:
    (first, summary), *others = runs.items()
    for name, other in others:
        if value_of(other) != value_of(summary):
            raise ValueError(f"{first} and {name} {what}, so that their numbers do not compare. Compare them apart.")


def identity_of(judgment: Judgment) -> str:
    """The judge's identity; its name in runs of older versions."""
    return judgment.get("identity") or judgment["name"]


def _shared_judgments(runs: Mapping[str, Summary]) -> tuple[list[dict[str, Any]], list[str]]:
    """Judgments by identities that all runs have, and what is left out, in words."""
    by_run = {name: {identity_of(j): j for j in summary["judgments"]} for name, summary in runs.items()}
    everywhere = set.intersection(*map(set, by_run.values()))
    left_out = [
        f"{judgment['name']} of {name}: not every run was judged by {identity}"
        for name, judgments in by_run.items()
        for identity, judgment in judgments.items()
        if identity not in everywhere
    ]
    if any(by_run.values()) and not everywhere:
        judges = "; ".join(f"{name}: {', '.join(judgments) or 'none'}" for name, judgments in by_run.items())
        raise ValueError(
            f"the runs share no judge ({judges}), and win rates of different judges do not compare. Name one judge "
            "under evaluation.oracles of every recipe, or score the answers with `sparring evaluate head-to-head`."
        )
    first = next(iter(by_run.values()))
    asked = [identity for identity in first if identity in everywhere]
    names = told_apart([(first[identity]["name"], identity) for identity in asked])
    shared = [
        {
            "name": name,
            "identity": identity,
            "seen_in_training": [judgments[identity]["seen_in_training"] for judgments in by_run.values()],
            "win_rates": [judgments[identity]["win_rate"] for judgments in by_run.values()],
        }
        for name, identity in zip(names, asked, strict=True)
    ]
    return sorted(shared, key=lambda judgment: any(judgment["seen_in_training"])), left_out


def run_row(name: str, summary: Summary) -> dict[str, Any]:
    """One run's behaviour and cost: times in seconds, KL in nats per response, the gap None without a pool."""
    start, final = summary["policies"][0], summary["policies"][-1]
    stages = [stage for one in summary["rounds"] for stage in one["stages"].values()]
    pool, hardware = summary.get("pool"), summary["lock"]["hardware"]
    return {
        "name": name,
        "algorithm": summary["algorithm"]["title"],
        "rounds": len(summary["rounds"]),
        "seed": summary["recipe"].get("seed"),
        "seconds": sum(stage["seconds"] for stage in stages),
        "tokens_sampled": _total(summary, "sample", "tokens"),
        "tokens_trained": _total(summary, "fit", "tokens"),
        "comparisons": _total(summary, "judge", "comparisons"),
        "checks": summary["checks"],
        "tokens": final["tokens_mean"],
        "tokens_start": start["tokens_mean"],
        "finished_share": final["finished_share"],
        "kl_title": kl_title(summary["recipe"]),
        "kl": final["kl_to_start"],
        "kl_standard_error": final["kl_standard_error"],
        "gap": pool["gaps"][str(final["round"])] if pool else None,
        "hardware": hardware.get("accelerator") or f"{hardware.get('cores')} cores",
        "warnings": summary["warnings"],
    }


def shared_kl_title(runs: Sequence[Mapping[str, Any]]) -> str:
    """The heading of a column of KLs: what all runs measured, or each kind that some of them did."""
    return " / ".join(dict.fromkeys(run["kl_title"] for run in runs))


def _total(summary: Summary, name: str, count: str) -> int:
    """A count of the stages of one name, summed over all rounds and seats."""
    stages = [item for one in summary["rounds"] for item in one["stages"].items()]
    return sum(int(stage["facts"].get(count, 0)) for key, stage in stages if key.split("/")[-1] == name)


def _differences(
    runs: Mapping[str, Summary], shared: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """By shared judge: each run's mean preference over the start, minus the first run's, paired by prompt.

    Judges without preferences by prompt in every run are left out, and named.
    """
    differences, unpaired = [], []
    for judgment in shared:
        by_run = {name: _by_prompt(summary, judgment["identity"]) for name, summary in runs.items()}
        if lacking := [name for name, values in by_run.items() if values is None]:
            unpaired.append(
                f"paired difference under {judgment['name']}: {', '.join(lacking)}, of an older version, stored it "
                "for the training oracle alone"
            )
            continue
        (_, first), *others = by_run.items()
        differences.append(
            {
                "judge": judgment["name"],
                "identity": judgment["identity"],
                "seen_in_training": any(judgment["seen_in_training"]),
                "runs": [_difference(name, first or [], values or []) for name, values in others],
            }
        )
    return differences, unpaired


def _by_prompt(summary: Summary, identity: str) -> list[float | None] | None:
    """A judge's preferences by prompt; older runs stored those of the recipe's oracle alone, with the samples."""
    place = next(i for i, judgment in enumerate(summary["judgments"]) if identity_of(judgment) == identity)
    if (stored := summary["judgments"][place].get("by_prompt")) is not None:
        return stored
    return [one["preference"] for one in summary["samples"]] if place == 0 and summary["headline"] else None


def _difference(name: str, first: Sequence[float | None], other: Sequence[float | None]) -> dict[str, Any]:
    gaps = [b - a for a, b in zip(first, other, strict=True) if a is not None and b is not None]
    difference, p = (interval(gaps, DIFFERENCE), sign_flip(np.array(gaps))) if gaps else (None, None)
    return {"name": name, "prompts": len(gaps), "difference": difference, "p": p}


def write_comparison(comparison: Mapping[str, Any], path: Path) -> None:
    """Write the comparison's page, one file that needs no network."""
    title = shared_kl_title(comparison["runs"])
    write_text(path, page("compare.html", c=comparison, kl_title=title, thin=THIN))
