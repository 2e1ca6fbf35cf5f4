"""The report: one HTML file with its styles and drawings inside, without scripts and without network.

This file says the result in words; `page.html` arranges it, `figures.py` draws the curves and says what they show,
`stages.py` lists what was made and left out. Leaves out: computing any number (`evaluation/`).

    write_report(summary, Path("runs/demo/report.html"))
"""

from __future__ import annotations

import re
import shlex
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sparring.endpoints.usage import UsageFile
from sparring.evaluation.best_policy import in_words, stop_in_words
from sparring.evaluation.intervals import Interval
from sparring.report.curve_checks import LEVELS
from sparring.report.figures import Figure, fit_figures, policy_figures, undrawn
from sparring.report.numbers import THIN, date, judge_names, number, percent, points, rule_name, span
from sparring.report.panels import kl_title
from sparring.report.picture import readme_svg
from sparring.report.rules_picture import FEWEST, rules_svg, telling
from sparring.report.stages import dropped, judges, left_out, made, total_seconds
from sparring.report.summary import Judgment, Matrix, PolicyEpisodes, PoolGaps, Rates, Summary
from sparring.runtime.files import write_text
from sparring.runtime.layout import RECIPE, USAGE, round_folder
from sparring.runtime.words import counted, duration

Favours = Literal["final", "start", "neither"]

HERE = Path(__file__).parent
OPEN_SAMPLES = 3
"""prompts shown at once; the others are behind a click"""
NOTHING = "This run was trained and not judged: no oracle compared its policies, and no prompt carries a check."
MOST_SAMPLES = 300
"""prompts in the page: it should open at once on a phone"""


def write_report(summary: Summary, path: Path) -> None:
    """Write the report's page, into the run's folder: its commands name that folder."""
    write_text(path, render(summary, path.parent, UsageFile(path.parent / USAGE).lines()))


def write_picture(summary: Summary, path: Path) -> None:
    """Write the README's picture (SVG)."""
    write_text(path, picture(summary))


def picture(summary: Summary) -> str:
    """The result as SVG: rules where code checked every held-out prompt, else judgments."""
    checks = summary["checks"]
    return rules_svg(summary["name"], checks) if checks and all_checked(summary) else readme_svg(summary)


def render(summary: Summary, run: Path | None = None, used: Sequence[str] = ()) -> str:
    """The page as text; `run` is the run's folder as its commands name it, the run's name by default.

    `used`: what the run had of served models, in words.
    """
    policies = policy_figures(summary["policies"], summary["recipe"], summary.get("evaluated", ()))
    fit = fit_figures(summary["fit"], summary["recipe"])
    checks = summary["checks"]
    return page(
        "page.html",
        s=summary,
        lead=lead(summary),
        checked_first=all_checked(summary),
        kinds=telling(checks) if checks else {},
        fewest=FEWEST,
        episodes=(episodes := summary.get("episodes", [])),
        roles=list(dict.fromkeys(role for one in episodes for role in one["replies"])),
        measures=list(dict.fromkeys(name for one in episodes for name in one["measures"])),
        checks_by_group={"": checks, **checks.get("by_group", {})} if checks else {},
        agreement=agreement(summary["judgments"]),
        names=judge_names(summary["judgments"]),
        cautions=cautions(summary["judgments"]),
        best=in_words(best) if (best := summary.get("best")) else "",
        stopped=stop_in_words(summary["stopped"]) if "stopped" in summary else "",
        cycles=losses_to_older(summary["matrix"]) if summary["matrix"] else [],
        beaten=beaten(summary["pool"]) if summary["pool"] else "",
        curves=levels(policies + fit),
        policy_figures=policies,
        kl_title=kl_title(summary["recipe"]),
        fit_figures=fit,
        fit_checks=levels(fit),
        undrawn=undrawn(summary["fit"]),
        left_out=left_out(summary),
        rounds_left_out=any(dropped(stage["facts"]) for r in summary["rounds"] for stage in r["stages"].values()),
        judges=judges(summary),
        used=used,
        next=next_steps(summary, run or Path(summary["name"])),
        recipe=yaml.safe_dump(dict(summary["recipe"]), sort_keys=False, allow_unicode=True),
        samples=summary["samples"][:MOST_SAMPLES],
        open_samples=OPEN_SAMPLES,
    )


def page(template: str, style: Sequence[str] = (), script: str = "", **values: Any) -> str:
    """A template of this folder as one file, with the common style, and with further files of style and a script."""
    code = own_files(script) if script else ""
    css = Markup(re.sub(r"/\*.*?\*/\s*|^ +|;? (?=})", "", own_files("page.css", *style), flags=re.M | re.S))
    digest = b64encode(sha256(code.encode()).digest()).decode()
    return environment().get_template(template).render(css=css, script=code, script_hash=digest, **values)


def own_files(*names: str) -> Markup:
    """Style sheets or scripts of this folder, joined: they are not text from a run, so nothing in them is escaped."""
    return Markup("".join((HERE / name).read_text(encoding="utf-8") for name in names))


@cache
def environment() -> Environment:
    """The templates of this folder, with the filters that put numbers into form."""
    loader = FileSystemLoader(HERE)
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (percent, points, span, number, duration, date, made, dropped, total_seconds, player, policy_name)
    templates.filters |= {filter_.__name__: filter_ for filter_ in (*filters, rule_name, spaced, counted)}
    templates.globals |= {"favours": favours}
    return templates


def favours(rate: Interval) -> Favours:
    """Which policy an interval favours: neither when it holds one half."""
    if rate.low > 0.5:
        return "final"
    return "start" if rate.high < 0.5 else "neither"


def lead(summary: Summary) -> str:
    """The result in one or two sentences: first what code checked, where it checked every prompt, then judgments."""
    if episodes := summary.get("episodes"):
        return _rewarded(episodes)
    checks, judged = summary["checks"], _judged(summary)
    parts = [_obeyed(checks)] if checks and (all_checked(summary) or not judged) else []
    return " ".join([*parts, judged] if judged else parts) or NOTHING


def all_checked(summary: Summary) -> bool:
    """Whether code could check every held-out prompt; then that comes before anybody's opinion."""
    return summary["checks"] is not None and summary["checks"]["prompts"] == len(summary["samples"])


def _judged(summary: Summary) -> str:
    if headline := summary["headline"]:
        seen = any(j["seen_in_training"] and j["name"] == headline["oracle"] for j in summary["judgments"])
        unseen = f"under “{headline['oracle']}”, which training never saw"
        return _comparison(headline["win_rate"], "under the oracle it was trained on" if seen else unseen)
    if unseen := [j for j in summary["judgments"] if not j["seen_in_training"]]:
        return _comparison(unseen[0]["win_rate"], f"under “{unseen[0]['name']}”, which training never saw")
    return ""


def _rewarded(episodes: Sequence[PolicyEpisodes]) -> str:
    """What self-play pays each role, before and after."""
    start, final = episodes[0]["rewards"], episodes[-1]["rewards"]
    paid = {role: (start[role].value, final[role].value) for role in start if role in final}
    parts = [f"as {role} from {before:+z.2f} to {after:+z.2f}" for role, (before, after) in paid.items()]
    return (
        f"Rewards in held-out self-play, from the start to the final policy: {', '.join(parts)}." if parts else NOTHING
    )


def _obeyed(checks: Rates) -> str:
    start, final, difference = percent(checks["start"].value), percent(checks["final"].value), checks["difference"]
    return (
        f"The final policy passes {final} of the responses that code can check, the start {start}: a difference of "
        f"{points(difference.value)} points (95{THIN}% interval {span(difference, points)})."
    )


def _comparison(rate: Interval, oracle: str) -> str:
    numbers = f"{percent(rate.value, rate)} of held-out comparisons against the start"
    interval = f"(95{THIN}% interval {span(rate)})"
    ends: dict[Favours, str] = {"final": ".", "start": ": it got worse.", "neither": ": too close to tell from chance."}
    side = favours(rate)
    only = "only " if side == "start" else ""
    return f"The final policy wins {only}{numbers} {interval} {oracle}{ends[side]}"


def agreement(judgments: list[Judgment]) -> str:
    """How many of the judgments that training never saw favour which policy, in a sentence; "" without any."""
    unseen = [favours(j["win_rate"]) for j in judgments if not j["seen_in_training"]]
    if not unseen:
        return ""
    words: dict[Favours, str] = {
        "final": "favour{} the final policy",
        "neither": "cannot tell them apart",
        "start": "favour{} the start",
    }
    sides = [(unseen.count(side), word) for side, word in words.items() if side in unseen]
    *others, last = [f"{count} {word.format('s' if count == 1 else '')}" for count, word in sides]
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"Of {counted(len(unseen), 'judgment')} that training never saw, {listed}."


def cautions(judgments: list[Judgment]) -> list[str]:
    """One plain sentence for every unseen judgment whose interval lies below one half."""
    return [
        f"“{j['name']}”, which training never saw, prefers the start: the final policy wins "
        f"{percent(j['win_rate'].value, j['win_rate'])} of comparisons, and the whole interval "
        f"({span(j['win_rate'])}) lies below 50{THIN}%."
        for j in judgments
        if not j["seen_in_training"] and favours(j["win_rate"]) == "start"
    ]


def losses_to_older(matrix: Matrix) -> list[str]:
    """Policies that lose to an older one, the trace that cycling leaves in a matrix."""
    names = [f"policy {name}" if name.isdigit() else f"the {name}" for name in matrix["policies"]]
    return [
        f"{names[new]} loses to {names[old]} ({percent(rate)})"
        for new in range(len(names))
        for old in range(new)
        if (rate := matrix["win_rate"][new][old]) is not None and rate < 0.5
    ]


def beaten(pool: PoolGaps) -> str:
    """Whether the final policy is shown to be beaten by its pool."""
    gap = list(pool["gaps"].values())[-1]
    if gap.low > 0:
        return f"The final policy is shown to be beaten by a member of this pool (gap at least {gap.low:.3f})."
    return "No member of this pool is shown to beat the final policy."


def levels(figures: Sequence[Figure]) -> str:
    """How many curves are ok, and which are not, in a sentence."""
    by_level = {level: [f.panel.title for f in figures if f.check and f.check.level == level] for level in LEVELS}
    parts = [f"{len(by_level['ok'])} ok"] if by_level["ok"] else []
    parts += [f"{len(by_level['look'])} to look at ({', '.join(by_level['look'])})"] if by_level["look"] else []
    parts += [f"{len(by_level['bad'])} bad ({', '.join(by_level['bad'])})"] if by_level["bad"] else []
    return f"Curves: {'; '.join(parts)}." if parts else ""


def next_steps(summary: Summary, run: Path) -> list[tuple[str, str, str]]:
    """What to do with the result: what, the folder or command, and a link where it is a folder."""
    rounds, folder = len(summary["rounds"]) or int(summary["recipe"].get("rounds", 1)), shlex.quote(str(run))
    policy = round_folder(rounds - 1).policy
    if "going_on" in summary:
        return [
            ("The newest policy", str(run / policy), f"{policy}/"),
            ("How far the run is", f"sparring status {folder}", ""),
        ]
    better = (summary.get("best") or {"round": 0})["round"]
    best = [("The best evaluated policy", f"sparring export {folder} --best", "")] if better not in (0, rounds) else []
    more = "evaluation.patience=null" if "stopped" in summary else f"rounds={rounds + 1}"
    versus = f"sparring evaluate head-to-head {shlex.quote(f'{run}:{rounds}')} {shlex.quote(f'{run}:0')}"
    return [
        ("The final policy", str(run / policy), f"{policy}/"),
        ("Its answers to your prompts", f'sparring samples {folder} --prompt "..."', ""),
        *([] if "episodes" in summary else [("Under a judge of your own", f"{versus} --oracle my_judge.yaml", "")]),
        ("As a model folder, to serve or publish", f"sparring export {folder}", ""),
        *best,
        ("Go on training", f"sparring run {shlex.quote(str(run / RECIPE))} --out {folder} --set {more}", ""),
    ]


def player(name: str) -> str:
    """A player of the pool for people: policy 3, or the best of 2 answers of policy 3."""
    policy, _, answers = name.partition(" best of ")
    who = f"policy {policy}" if policy.isdigit() else policy if not answers else f"the {policy}"
    return f"best of {answers} answers of {who}" if answers else who


def policy_name(ref: str) -> str:
    """A stored policy for people: "0/play" is the start, "2/play" policy 2, "2/half" the seat `half` of round 2."""
    number_, _, seat = ref.partition("/")
    name = "start" if number_ == "0" else f"policy {number_}"
    return name if seat in ("", "play") else f"{name}, {seat}"


def spaced(words: str) -> str:
    """Percentages as everywhere on the pages: 95 % and not 95%."""
    return re.sub(r"(?<=\d)%", f"{THIN}%", words)
