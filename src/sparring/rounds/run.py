"""A run: the state machine that takes a recipe through its stages, from the first or the next unfinished one.

Every stage is a function from files to files under the store's manifest, so a killed run goes on where it was when the
same command is repeated. This file decides the order and the inputs; it is blind to which algorithm runs. Leaves out: a
step's stages (`step.py`), and what each stage does (its own file).

    run(load_recipe("recipes/demo.yaml"), Path("runs/demo"))
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast

import transformers

from sparring.algorithms.algorithm import ANY_DATA, DataFacts, PolicyRef, Reuse
from sparring.endpoints import usage
from sparring.environments.environment import build_environment
from sparring.evaluation.best_policy import Stopped, figures_in_words, stop_in_words
from sparring.fleet.work import current
from sparring.recipe.reading import RecipeSource, as_recipe
from sparring.recipe.recipe import Recipe
from sparring.report.html import write_report
from sparring.report.numbers import judge_names
from sparring.report.shown import view_of_run
from sparring.report.summary import Summary, read_summary
from sparring.rounds.collect import collect_pairs
from sparring.rounds.environment_identity import refuse_other_environment
from sparring.rounds.evaluate import judge_last, sample_held_out, summarise, summary_so_far
from sparring.rounds.evaluate_play import HeldOutEpisodes
from sparring.rounds.judge import check_judge
from sparring.rounds.measure import can_be_evaluated, evaluated, measure
from sparring.rounds.play import try_environment
from sparring.rounds.policies import Policies
from sparring.rounds.policy_files import check_policies
from sparring.rounds.preflight import Probed, check_best_by, check_window, probe, say_prices, try_model, write_lock
from sparring.rounds.prepare import check_data, prepare
from sparring.rounds.remaining import seconds_left
from sparring.rounds.resume import check_resumable, stage_names, take_recipe
from sparring.rounds.so_far import best_after, evaluated_policies, find_stop
from sparring.rounds.state import rounds_made
from sparring.rounds.step import StepFit, StepPairs
from sparring.rounds.store import Counts, Made, Store
from sparring.rounds.tables import ExampleRow
from sparring.rounds.teacher import ask_opponent, ask_teacher
from sparring.rounds.trackers import Trackers, check_trackers
from sparring.rounds.warm import Warm
from sparring.runtime import devices, layout
from sparring.runtime.files import read_column, read_rows_at
from sparring.runtime.memory import end_what_is_kept, older_objects_stay
from sparring.runtime.progress import QUIET, Progress, Recorder
from sparring.runtime.randomness import noise_seed
from sparring.runtime.shown import Shown


def run(
    recipe: RecipeSource,
    out: str | Path,
    progress: Progress | None = None,
    twins: Mapping[str, Sequence[Path]] | None = None,
) -> Summary:
    """Start or resume the run in `out`; returns its summary (also in evaluation/summary.json), which shows its result.

    `recipe`: a `Recipe`, the path or shipped name of a recipe file, or its content, in which an oracle may be a
    function. `twins`: by stage, folders of runs that make the same files there from the same inputs
    (`studies/twins.py`).

    Raises:
        ValueError: the recipe, the data or the folder is not usable; before work is lost.
        OracleError, Tripwire: a stage stopped; what finished before it stays on disk.
    """
    recipe, out, progress = as_recipe(recipe), Path(out), progress or Progress()
    transformers.utils.logging.disable_progress_bar()
    with Store(out).locked() as store, contextlib.ExitStack() as stack:
        stack.callback(end_what_is_kept)
        recorder = Recorder(out / layout.PROGRESS, current().standing)
        progress = progress.recorded(recorder)
        store.twins = twins or {}
        with store.first_start():
            journal = stack.enter_context(usage.recording(out / layout.USAGE))
            if journal.damage:
                progress.say(journal.damage)
            store.check()
            check_trackers(recipe.trackers)
            changes = check_resumable(store, recipe)
            check_policies(policies := Policies(store, recipe.model, recipe.fit.precision))
            check_data(policies, recipe)
            if recipe.environment is not None:
                refuse_other_environment(store, build_environment(recipe.environment))
            if changes:
                check_judge(policies, recipe)
            take_recipe(store, recipe, changes, progress)
            trackers = stack.enter_context(Trackers(recipe.trackers, out, recipe.resolved(), progress.say))
            started = Run(recipe, store, progress, trackers)
            started.begin()
        recorder.forget_earlier()
        with older_objects_stay():
            summary = started.execute()
        current().rest()
    return cast(Summary, Shown(summary, partial(view_of_run, run=out)))


def check(recipe: RecipeSource, progress: Progress | None = None) -> None:
    """Try everything that a run needs, judges too, and keep nothing of it.

    Raises:
        ValueError: the recipe or the data is not usable.
        OracleError: a judge did not answer its first question.
    """
    recipe, progress = as_recipe(recipe), progress or Progress()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)).locked() as store:
        check_trackers(recipe.trackers)
        check_data(policies := Policies(store, recipe.model, recipe.fit.precision), recipe)
        try_parts(policies, recipe, progress)


def try_parts(policies: Policies, recipe: Recipe, progress: Progress) -> Probed:
    """Ask every judge a first question, try the model, prepare the data, and say what is to be expected."""
    probed = probe(policies, recipe, progress)
    try_model(policies, recipe, progress)
    prepare(policies, recipe, progress)
    check_window(policies, recipe)
    by_task = None
    if recipe.environment is not None:
        (task,) = read_rows_at(policies.store.root / layout.TRAIN, [0])
        by_task = try_environment(policies, recipe, task)
    check_best_by(policies.store, recipe)
    if warning := recipe.few_steps(policies.store.manifest[layout.DATA_STAGE]["facts"]["train"]):
        progress.say(f"warning  {warning}")
    say_prices(policies.store, recipe, probed.judges, progress, by_task)
    return probed


class Run:
    """A recipe's stages over a store."""

    def __init__(self, recipe: Recipe, store: Store, progress: Progress, trackers: Trackers) -> None:
        self.recipe, self.store, self.progress, self.trackers = recipe, store, progress, trackers
        self.algorithm = recipe.build_algorithm()
        self.policies = Policies(store, recipe.model, recipe.fit.precision)
        if recipe.warm and devices.count() == 1 and not current().shares:
            self.policies.warm = Warm()
        self.policies.keeps_vllm = recipe.warm
        self.judges = ""
        """identities of all that judge; empty for a finished run, which asks nobody"""

    def begin(self) -> None:
        """Try all parts, prepare the data and write lock.json."""
        recipe, progress, store = self.recipe, self.progress, self.store
        rounds = rounds_made(store.manifest, recipe.rounds)
        if not (finished := layout.is_finished(store.manifest, rounds)):
            store.link("final", None)
            self._say_where()
        probed = try_parts(self.policies, recipe, QUIET if finished else progress)
        self.judges = "; ".join(probed.identities)
        write_lock(self.policies, recipe.seed, probed.engine, progress)

    def execute(self) -> Summary:
        """All stages, in order."""
        recipe, progress, store = self.recipe, self.progress, self.store
        if recipe.data.collect is not None:
            collect_pairs(self.policies, recipe, progress)
        if recipe.data.teacher is not None:
            ask_teacher(self.policies, recipe, progress)
        made, stopped = recipe, None
        for t in range(recipe.rounds):
            self._round(t)
            stopped = self._evaluate_round(t + 1)
            self._prune(t)
            if stopped is not None:
                made = recipe.after(stopped["after"])
                progress.say(stop_in_words(stopped))
                break
        store.link("final", layout.round_folder(made.rounds - 1).policy)
        summary = self._evaluate(made)
        if store.idle:
            day = datetime.fromisoformat(store.manifest[layout.SUMMARY_STAGE]["finished"])
            more = f"; --set rounds={recipe.rounds + 1} would go on for a round" if stopped is None else ""
            progress.say(f"finished on {day:%d %B %Y}, nothing to do{more}")
        return summary

    def _say_where(self) -> None:
        """Where a stopped run goes on."""
        names = list(stage_names(self._as_made()))
        if missing := [name for name in names if not self.store.finished(name)]:
            done = len(names) - len(missing)
            if done:
                place = layout.title_of(missing[0], self.recipe.rounds)
                self.progress.say(f"going on at {place}; {done} of {len(names)} stages are finished")

    def _as_made(self) -> Recipe:
        """The recipe with the rounds that it has where evaluation.patience has stopped it."""
        return self.recipe.after(rounds_made(self.store.manifest, self.recipe.rounds))

    def _seconds_left(self) -> float | None:
        return seconds_left(self.recipe, stage_names(self.recipe), self.store.manifest)

    # ---- training -----------------------------------------------------------------------------

    def _round(self, t: int) -> None:
        """Every step of a round: its pairs, unless it uses an earlier step's, and its fit."""
        file, data_hash = self._train_table()
        names = read_column(self.store.root / file, "example")
        places = round_indices(names, self.recipe.data.prompts_per_round, t, self.recipe.seed)
        examples: list[ExampleRow] = read_rows_at(self.store.root / file, places)
        steps = self.algorithm.steps(t, DataFacts(len(names)))
        for step in steps:
            folder = pair_folder = layout.round_folder(t, step.trains)
            progress = self.progress.at(layout.title_of(folder, self.recipe.rounds), self._seconds_left)
            if isinstance(step.responses, Reuse):
                pair_folder = layout.round_folder(t, steps[step.responses.step].trains)
            else:
                StepPairs(self.policies, self.recipe, folder, step, examples, progress).make(data_hash)
            report = partial(self._track, self._steps_before(folder.stage("fit")))
            made = PolicyRef(t + 1, step.trains)
            StepFit(self.policies, self.recipe, folder, pair_folder, step, made, progress, report).make()
        self.store.link(f"policy-{t + 1}", layout.round_folder(t).policy)

    def _train_table(self) -> tuple[str, str]:
        """The training table and its hash."""
        stage, file = layout.DATA_STAGE, layout.TRAIN
        if self.recipe.data.collect is not None:
            stage, file = layout.COLLECTION.stage("freeze"), layout.COLLECTED
        elif self.recipe.data.teacher is not None:
            stage, file = layout.TEACHER_STAGE, layout.TAUGHT
        return file, self.store.output_hash(stage, file)

    def _steps_before(self, key: str) -> int:
        """Optimiser steps of the run's finished fits but the one of this key."""
        fits = {other for other in self.store.manifest if layout.stage_name(other) == "fit"} - {key}
        return sum(self.store.manifest[fit]["facts"]["steps"] for fit in fits)

    def _track(self, before: int, row: dict[str, float]) -> None:
        values = {f"fit/{name}": value for name, value in row.items() if name != "step"}
        self.trackers.log(values, before + int(row["step"]))

    def _prune(self, t: int) -> None:
        """Delete iterates that neither later rounds nor the recipe's keep_iterates need, but not the best so far."""
        keep, every = self.recipe.keep_iterates, self.recipe.keep_every
        self._prune_moments(t if keep == 0 else t - 1)
        if keep == "all":
            return
        best = best_after(self.store.manifest, self.recipe, t + 1)
        later = range(t + 1, self.recipe.rounds)
        oldest = min((self.algorithm.oldest_iterate(s) for s in later), default=t + 1)
        for old in range(1, min(oldest, t + 1 - keep)):
            if (best is not None and best["round"] == old) or (every is not None and old % every == 0):
                continue
            for step in self.algorithm.steps(old - 1, ANY_DATA):
                folder = layout.round_folder(old - 1, step.trains)
                if (self.store.root / folder.policy).exists():
                    self.store.prune(folder.stage("fit"), folder.policy)
            self.store.link(f"policy-{old}", None)

    def _prune_moments(self, first: int) -> None:
        """Delete the optimiser's moments of the rounds before `first`: the next fit takes those of the last one.

        Those of the one before stay where its policy does, for a last policy that is deleted to be fitted again.
        """
        for t in range(first):
            for step in self.algorithm.steps(t, ANY_DATA):
                folder = layout.round_folder(t, step.trains)
                if (self.store.root / folder.optimizer).exists():
                    self.store.prune(folder.stage("fit"), folder.moments)
                    (self.store.root / folder.optimizer).rmdir()

    # ---- evaluation ---------------------------------------------------------------------------

    def _evaluate_round(self, t: int) -> Stopped | None:
        """With evaluation.every, evaluate the policy after t rounds as if the run ended; whether it is to end here."""
        recipe, store = self.recipe.after(t), self.store
        if recipe.evaluation.every is None or t not in self.recipe.evaluated_rounds():
            return None
        progress = self.progress.at(f"evaluation of policy {t}", self._seconds_left)
        if not can_be_evaluated(self.policies, recipe, PolicyRef(t)):
            progress.say("left out: the policy is not on disk any more (keep_iterates)")
            return None
        inputs, held_out = self._answers(recipe, progress)
        key, file = layout.evaluation_stage("judge", t), layout.judged_policy(t)
        # Another judge would make this policy's figures another measure than those of the next ones.
        inputs["judges"] = self.judges or store.manifest.get(key, {}).get("inputs", {}).get("judges", "")
        judge = partial(judge_last, self.policies, recipe, held_out, progress)
        store.file(key, file, inputs, judge)
        if t < self.recipe.rounds and layout.round_folder(t).stage("fit") not in store.manifest:
            self._show(recipe)
        return self._stop(t)

    def _show(self, recipe: Recipe) -> None:
        """Report the policies so far, and send the last one's figures to the trackers."""
        summary = summary_so_far(self.policies, recipe, self.recipe.rounds)
        write_report(summary, self.store.root / layout.REPORT)
        if self.store.ran(layout.evaluation_stage("judge", recipe.rounds)):
            self.progress.say(figures_in_words(*evaluated_policies(self.store.manifest, [recipe.rounds])))
            self.trackers.log(_win_rates(summary), self._steps_before(""))

    def _stop(self, t: int) -> Stopped | None:
        """Whether evaluation.patience ends the training here; the manifest keeps it as a fact.

        A later round that was fitted already, before patience was asked for, is not thrown away.
        """
        store, stop = self.store, find_stop(self.store.manifest, self.recipe, t)
        if stop is None or layout.round_folder(t).stage("fit") in store.manifest:
            if store.manifest.get(layout.STOP_STAGE, {}).get("facts", {}).get("after") == t:
                store.forget(layout.STOP_STAGE)  # an earlier round was made again, and now this one is better
            return None
        facts = dict(stop)
        store.stage(layout.STOP_STAGE, {name: str(value) for name, value in facts.items()}, lambda: Made((), facts))
        return stop

    def _answers(self, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], list[ExampleRow]]:
        """Every evaluated policy's and opponent's answers: their files' hashes; and the held-out prompts."""
        count = self.store.manifest[layout.DATA_STAGE]["facts"]["held_out"]
        places = range(min(count, recipe.evaluation.prompts or count))
        held_out: list[ExampleRow] = read_rows_at(self.store.root / layout.HELD_OUT, places)
        inputs = {"data": self.store.output_hash(layout.DATA_STAGE, layout.HELD_OUT)}
        if recipe.environment is not None:
            return inputs | HeldOutEpisodes(self.policies, recipe, held_out, progress).make(inputs["data"]), held_out
        inputs |= dict(self._measure(ref, held_out, progress) for ref in evaluated(self.policies, recipe))
        ask = partial(ask_opponent, self.policies, recipe, held_out=held_out, progress=progress)
        return inputs | dict(ask(config) for config in recipe.evaluation.opponents), held_out

    def _evaluate(self, recipe: Recipe) -> Summary:
        """The evaluation at the end of the recipe's rounds."""
        progress, store = self.progress.at("evaluation", self._seconds_left), self.store
        inputs, held_out = self._answers(recipe, progress)
        if recipe.evaluation.every is not None:
            judged = {layout.evaluation_stage("judge", t): layout.judged_policy(t) for t in recipe.evaluated_rounds()}
            inputs |= {file: store.output_hash(key, file) for key, file in judged.items() if key in store.manifest}

        def judge(target: Path) -> Counts:
            progress.say("judge")
            return summarise(self.policies, recipe, held_out, progress, target)

        store.file(layout.SUMMARY_STAGE, layout.SUMMARY, inputs, judge)
        summary = read_summary(store.root / layout.SUMMARY)
        write_report(summary, store.root / layout.REPORT)
        self.trackers.log(_win_rates(summary), self._steps_before("") + 1)
        return summary

    def _measure(self, ref: PolicyRef, held_out: list[ExampleRow], progress: Progress) -> tuple[str, str]:
        """A policy's held-out samples, drawn and measured: their file and its hash."""
        t, samples = ref.round, layout.held_out_samples(ref.round)
        inputs = {"data": self.store.output_hash(layout.DATA_STAGE, layout.HELD_OUT), "policy": self.policies.hash(ref)}
        arguments = (self.policies, self.recipe, ref, held_out, progress)
        sample, measured = partial(sample_held_out, *arguments), partial(measure, *arguments)
        _, inputs["samples"] = self.store.file(layout.evaluation_stage("sample", t), samples, inputs, sample)
        self.store.file(layout.evaluation_stage("measure", t), layout.policy_measures(t), inputs, measured)
        return samples, inputs["samples"]


def _win_rates(summary: Summary) -> dict[str, float]:
    names = zip(judge_names(summary["judgments"]), summary["judgments"], strict=True)
    return {f"evaluation/{name}/win_rate": judgment["win_rate"].value for name, judgment in names}


def round_indices(names: Sequence[str], count: int | None, t: int, seed: int) -> Sequence[int]:
    """Indices of the examples of round t: all, or the t-th slice of a fixed shuffle that starts over at its end."""
    if count is None or count >= len(names):
        return range(len(names))
    order = sorted(range(len(names)), key=lambda i: noise_seed(seed, "order", names[i]))
    return [order[(t * count + i) % len(order)] for i in range(count)]
