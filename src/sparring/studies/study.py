"""A study: several methods from the same start, prompts and budget, over several seeds, as one resumable piece of work.

    out/METHOD/seed-S/      a run, exactly as `sparring run` makes it
    out/choice/METHOD/VALUE/seed-S/   a run that helps to choose a setting (`choice.py`)
    out/verdicts.jsonl      the oracle's verdicts between the methods' final policies
    out/study.json          every number; study.md shows them
    out/seed-S.html         the runs of one seed side by side

With `tasks`, lm-eval's documents are in out/scores/. A finished run is not made again, no verdict is asked twice, and
what several runs make alike is made once (`twins.py`), so the same command goes on where it stopped. A run that a
tripwire ends is a result and is reported as one. Leaves out: the numbers (`studies/numbers.py`).

    run_study(load_study(Path("study.yaml")), Path("runs/study"), Progress())
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from sparring.evaluation.decided_by_rule import decide, undecided
from sparring.evaluation.intervals import known_mean
from sparring.oracles.abilities import announce
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.report.compare import gather, write_comparison
from sparring.report.summary import Summary
from sparring.rounds.evaluate import stored_by_prompt
from sparring.rounds.policies import Policies, start_folder
from sparring.rounds.run import run
from sparring.rounds.store import Store
from sparring.runtime.errors import Tripwire
from sparring.runtime.files import write_json, write_text
from sparring.runtime.locks import locked_folder
from sparring.runtime.memory import release_memory
from sparring.runtime.progress import Progress
from sparring.studies.choice import check_choice, choose, refuse_stored_values, values_of
from sparring.studies.judges import MissingJudge, alike, check_study, contest_judge, unfinished
from sparring.studies.numbers import Pair, Preferences, Tables, markdown, numbers
from sparring.studies.reading import CHOICE, START, Recipes, Study
from sparring.studies.tasks import Tasks, TaskScores, task_rows
from sparring.studies.twins import twins_of

WAVE = 256
"""comparisons judged together"""


def run_study(study: Study, out: Path, progress: Progress, tasks: Tasks | None = None) -> dict[str, Any]:
    """Make every run that is not there yet, judge the final policies against each other, and write the numbers.

    Raises:
        ValueError: what a run needs is missing, stored runs had another judge, every run stopped itself, nothing says
            which value a method takes, or the tasks cannot be scored; or another process works on `out`.
    """
    if unfinished(study.all_recipes(), all_folders(study, out)):
        check(study, out)
    with locked_folder(out):
        return _run_study(study, out, progress, tasks)


def check(study: Study, out: Path) -> None:
    """Find the problems that would stop a study later, in its recipes, data, judges and choice, as a ValueError."""
    check_study(study.all_recipes(), all_folders(study, out))
    if study.choice is not None:
        check_choice(study.choice)


def _run_study(study: Study, out: Path, progress: Progress, tasks: Tasks | None) -> dict[str, Any]:
    start = [] if tasks is None else _start_scores(study.recipes, tasks, out, progress)
    recipes, choice = study.recipes, None
    if study.choice is not None:
        folders = run_folders(recipes, out)
        refuse_stored_values(study.choice, folders, {})
        choice = choose(study.choice, *_made(study.choice.tries, out / CHOICE, progress, "choice"))
        refuse_stored_values(study.choice, folders, values_of(choice))
        recipes = study.choice.settled(values_of(choice))
        for name, value in values_of(choice).items():
            progress.say(f"choice: {name} takes {choice['field']} = {value:g}")
    summaries, stopped = _made(recipes, out, progress, "study")
    if not summaries:
        raise ValueError("every run of the study stopped itself, so there is nothing to compare.")
    summaries = alike(recipes, summaries)
    for seed in dict.fromkeys(seed for _, seed in summaries):
        of_seed = {name: summary for (name, s), summary in summaries.items() if s == seed}
        if len(of_seed) > 1:
            write_comparison(gather(of_seed), out / f"seed-{seed}.html")
    tables, judged = _contests(recipes, list(summaries), out, progress)
    result = {**numbers(summaries, tables), **judged, "stopped": stopped, "choice": choice}
    if tasks is not None:
        result["tasks"] = task_rows(tasks.names, start, _final_scores(recipes, summaries, tasks, out, progress))
    write_json(out / "study.json", result)
    write_text(out / "study.md", markdown(result))
    return result


def _made(
    recipes: Recipes, out: Path, progress: Progress, what: str
) -> tuple[dict[tuple[str, int], Summary], list[dict[str, Any]]]:
    """The summaries of all runs, made where they are missing, and of those that stopped themselves the reasons."""
    summaries, stopped = dict[tuple[str, int], Summary](), list[dict[str, Any]]()
    for at, ((name, seed), recipe) in enumerate(recipes.items(), 1):
        progress.say(f"{what}: {name}, seed {seed} ({at} of {len(recipes)})")
        try:
            others = {key: recipes[key] for key in summaries}
            twins = twins_of(recipe, others, run_folders(others, out))
            summaries[name, seed] = run(recipe, run_folder(out, name, seed), progress, twins)
        except Tripwire as reason:
            stopped.append({"method": name, "seed": seed, "reason": str(reason)})
            progress.say(f"{what}: {name}, seed {seed} stopped itself and is reported as stopped: {reason}")
        release_memory()
    return summaries, stopped


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Folder of a run of the study."""
    return out / name / f"seed-{seed}"


def run_folders(recipes: Recipes, out: Path) -> dict[tuple[str, int], Path]:
    """Folders of all these runs."""
    return {key: run_folder(out, *key) for key in recipes}


def all_folders(study: Study, out: Path) -> dict[tuple[str, int], Path]:
    """Folders of all runs of the study, first those that choose."""
    tries = run_folders(study.choice.tries, out / CHOICE) if study.choice else {}
    return tries | run_folders(study.recipes, out)


def _start_scores(recipes: Recipes, tasks: Tasks, out: Path, progress: Progress) -> list[TaskScores]:
    """The common start's documents per task, before any run: what cannot be loaded stops the study here."""
    tasks.check()
    for (name, _), recipe in recipes.items():
        if recipe.model.lora is not None:
            raise ValueError(
                f"--tasks with method {name}, which trains an adapter: score its runs with sparring export and "
                "sparring evaluate leaderboard."
            )
    model = next(iter(recipes.values())).model
    scores = tasks.score(start_folder(model), out / "scores", START, progress)
    release_memory()
    return scores


def _final_scores(
    recipes: Recipes, finished: Collection[tuple[str, int]], tasks: Tasks, out: Path, progress: Progress
) -> dict[str, list[list[TaskScores]]]:
    """The final policy's documents per task, by method, for each of its scored seeds that is finished."""
    seeds = list(dict.fromkeys(seed for _, seed in recipes))[: tasks.seeds]
    scores: dict[str, list[list[TaskScores]]] = {name: [] for name, _ in recipes}
    for name, seed in finished:
        if seed in seeds:
            recipe = recipes[name, seed]
            policies = Policies(Store(run_folder(out, name, seed)), recipe.model, recipe.fit.precision)
            folder = policies.whole_weights(recipe.rounds)
            scores[name].append(tasks.score(folder, out / "scores", f"{name}, seed {seed}", progress))
            release_memory()
    for name in [name for name, of_seeds in scores.items() if not of_seeds]:
        progress.say(f"tasks: no run of {name} is scored, since those of seeds {', '.join(map(str, seeds))} stopped")
        del scores[name]
    return scores


def _contests(
    recipes: Recipes, finished: list[tuple[str, int]], out: Path, progress: Progress
) -> tuple[dict[int, Tables], dict[str, Any]]:
    """P(first's response beats second's) by seed, pair of players and prompt: means over their stored responses.

    The second dictionary names the judge, and counts failed comparisons and prompts that one side of a pair lacks.
    """
    first = recipes[finished[0]]
    if first.oracle is None:
        return {}, {}
    runs = {key: recipes[key] for key in finished}
    guard = Guard(contest_judge(runs, run_folders(runs, out)), Store(out).path("verdicts.jsonl"))
    asked: dict[tuple[int, Pair], list[Comparison]] = {}
    lone = 0
    for seed in dict.fromkeys(seed for _, seed in finished):
        names = [name for name, s in finished if s == seed]
        answers = {name: stored_by_prompt(run_folder(out, name, seed), recipes[name, seed].rounds) for name in names}
        answers = {START: stored_by_prompt(run_folder(out, names[0], seed), 0), **answers}
        for a, b in combinations(answers, 2):
            one, two = answers[a], answers[b]
            asked[seed, (a, b)] = [Comparison(t, x, y) for t in one if t in two for x, y in product(one[t], two[t])]
            lone += len(one.keys() ^ two.keys())
    if not isinstance(guard.oracle, MissingJudge):
        guard.probe(say=progress.say)
    announce(guard.oracle, undecided([comparison for own in asked.values() for comparison in own]), progress.say)
    tables: dict[int, Tables] = {}
    with progress.task("contests", len(asked)) as advance:
        for (seed, pair), comparisons in asked.items():
            tables.setdefault(seed, {})[pair] = _judged(comparisons, guard)
            advance(1)
    return tables, {"judge": guard.identity, "failed": guard.failed, "answered_by_one_side": lone}


def _judged(comparisons: list[Comparison], guard: Guard) -> Preferences:
    waves = [comparisons[begin : begin + WAVE] for begin in range(0, len(comparisons), WAVE)]
    verdicts = [p for wave in waves for p in decide(wave, guard)[0].tolist()]
    by_prompt: dict[str, list[float]] = {}
    for comparison, p in zip(comparisons, verdicts, strict=True):
        by_prompt.setdefault(comparison.prompt, []).append(p)
    return {text: known_mean(np.array(values)) for text, values in by_prompt.items()}
