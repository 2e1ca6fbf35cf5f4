"""A run: the state machine that takes a recipe through its stages, from the first or the next unfinished one.

Every stage is a function from files to files under the store's manifest, so a killed run goes on where it was
when the same command is given again. This file decides the order and the inputs; it is blind to
which algorithm runs. Leaves out: what each stage does (its own file).

    run(load_recipe("recipes/demo.yaml"), Path("runs/demo"))
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import transformers

import sparring
from sparring.algorithms.algorithm import REFERENCE, Draw, Facts, PolicyRef, Reuse, Step
from sparring.algorithms.judged import PAIRINGS
from sparring.data.rows import data_files
from sparring.data.text import repeating_share
from sparring.models.weights import context_length, vocabulary_size
from sparring.objectives.pairs import PairLogistic
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import FitConfig
from sparring.report.html import write_report
from sparring.report.summary import Summary, read_summary
from sparring.rounds.anchor import anchor_logps
from sparring.rounds.evaluate import measure, played, sample_held_out, summarise
from sparring.rounds.fit import fit_step, training_examples
from sparring.rounds.judge import gather, judge_examples, judges_of, make_pairs
from sparring.rounds.policies import Policies
from sparring.rounds.preflight import Judges, probe, say_prices, try_model, write_lock
from sparring.rounds.prepare import Preparation
from sparring.rounds.resume import adopt_recipe, fit_settings, other_settings
from sparring.rounds.sample import sample_draw
from sparring.rounds.store import Made, Store
from sparring.rounds.tables import EXAMPLES, SAMPLES
from sparring.rounds.teacher import ask_opponent, ask_teacher
from sparring.rounds.trackers import Trackers, check_trackers
from sparring.runtime.files import hash_files, read_column, read_json, read_rows_at, read_table, write_table
from sparring.runtime.layout import (
    COLLECTED,
    HELD_OUT,
    LOCK,
    REPORT,
    SUMMARY,
    SUMMARY_STAGE,
    TAUGHT,
    TRAIN,
    round_folder,
)
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed
from sparring.training.metrics import Tripwire

Rows = list[dict[str, Any]]


def run(recipe: Recipe, out: Path, progress: Progress | None = None) -> Summary:
    """Start or resume the run in `out`; returns its summary (also in evaluation/summary.json).

    Raises:
        ValueError: the recipe, the data or the folder is not usable; before work is lost.
        OracleError, Tripwire: a stage stopped; everything finished before it is kept.
    """
    progress = progress or Progress()
    transformers.utils.logging.disable_progress_bar()
    store = Store(out)
    with store.locked():
        store = Store(out)
        adopt_recipe(store, recipe, progress)
        store.check()
        check_trackers(recipe.trackers)
        with Trackers(recipe.trackers, out, recipe.resolved(), progress.say) as trackers:
            return Run(recipe, store, progress, trackers).execute()


class Run:
    """A recipe's stages over a store."""

    def __init__(self, recipe: Recipe, store: Store, progress: Progress, trackers: Trackers | None = None) -> None:
        self.recipe, self.store, self.progress = recipe, store, progress
        self.trackers = trackers or Trackers([], store.root, {}, progress.say)
        self.algorithm = recipe.build_algorithm()
        self.policies = Policies(store, recipe)

    def execute(self) -> Summary:
        """All stages, in order."""
        found = probe(self.policies, self.progress)
        try_model(self.policies)
        self._prepare(found.judges)
        write_lock(self.policies, found.engine, self.progress)
        if self.recipe.data.collect is not None:
            self._collect()
        if self.recipe.data.teacher is not None:
            ask_teacher(self.store, self.recipe, self.policies.chat, self.progress)
        for t in range(self.recipe.rounds):
            self._round(t)
        return self._evaluate()

    def collect_only(self) -> None:
        """The stages that build a preference set: `collect/pairs.parquet`."""
        found = probe(self.policies, self.progress)
        self._prepare(found.judges, prompts_only=True)
        write_lock(self.policies, found.engine, self.progress)
        self._collect()

    def _prepare(self, judges: Judges, prompts_only: bool = False) -> None:
        model, chat = (self.policies.base, self.recipe.model.trust_remote_code), self.policies.chat
        sizes = context_length(*model) or 1_000_000, vocabulary_size(*model)
        inputs = {"model": self.policies.base_hash, "tokenizer": chat.identity, **self._data_hashes()}

        preparation = Preparation(self.store, self.recipe, chat, inputs, *sizes, self.progress)
        facts = self.store.stage("data", inputs, lambda: preparation.run(prompts_only))
        held_out = f", {facts['held_out']} held out" if "held_out" in facts else ""
        self.progress.say(f"data  {facts['train']} training examples{held_out}")
        for name, reasons in facts["dropped"].items():
            for reason, count in reasons.items():
                self.progress.say(f"data  {name}: dropped {count}: {reason}")
        say_prices(self.policies, judges, self.progress)

    def _data_hashes(self) -> dict[str, str]:
        """Hashes of the data files; the recipe names the others."""
        sets = {"train": self.recipe.data.train, "held_out": self.recipe.data.held_out}
        files = {name: data_files(config) for name, config in sets.items()}
        return {name: hash_files(paths) for name, paths in files.items() if paths is not None}

    # ---- the five stages ----------------------------------------------------------------------

    def _judge_and_pair(
        self,
        folder: str,
        key: str,
        step: Step,
        examples: Rows,
        samples: Rows,
        inputs: dict[str, str],
    ) -> None:
        """verdicts.parquet and pairs.parquet of a step, from its samples."""
        responses = gather(step, examples, samples)
        seed = noise_seed(self.recipe.seed, key)
        verdict_file, pair_file = f"{folder}/verdicts.parquet", f"{folder}/pairs.parquet"
        verdicts: Rows = []
        if step.judged:

            def judge() -> Made:
                guard = self._guard()
                target = self.store.path(verdict_file)
                return Made(
                    (verdict_file,),
                    judge_examples(step.pairing, examples, responses, guard, seed, target, self.progress),
                )

            facts = self.store.stage(f"{key}/judge", inputs, judge)
            if facts["failed"]:
                self.progress.say(f"{key}  judge: {facts['failed']} of {facts['comparisons']} comparisons failed")
            if facts.get("answers_cut"):
                self.progress.say(f"{key}  judge: the oracle read {facts['answers_cut']} answers only in part")
            verdicts = read_table(self.store.root / verdict_file)
            inputs = {**inputs, "verdicts": self.store.output_hash(f"{key}/judge", verdict_file)}

        def pair() -> Made:
            return Made(
                (pair_file,),
                make_pairs(step, examples, responses, verdicts, seed, self.store.path(pair_file)),
            )

        facts = self.store.stage(f"{key}/pair", inputs, pair)
        drops = [(what, *drop) for what in ("examples", "pairs") for drop in facts.get(f"dropped_{what}", {}).items()]
        self.progress.say(
            f"{key}  pair: {facts['pairs']} pairs of {facts['examples']} examples"
            + "".join(f", dropped {count} {what}: {reason}" for what, reason, count in drops)
        )

    def _guard(self) -> Guard:
        assert self.recipe.oracle is not None
        oracle = build_oracle(self.recipe.oracle, str(self.policies.base))
        guard = Guard(oracle, self.store.path("cache/verdicts.jsonl"))
        for folder, identity in judges_of(self.store.manifest).items():
            if identity != guard.identity:
                raise ValueError(
                    f"oracle: {folder} was judged by {identity}, and this is {guard.identity}: "
                    "what two judges said does not go into one run. Undo the change, or start anew with another --out."
                )
        return guard

    def _sample(self, folder: str, key: str, step: Step, examples: Rows, data_hash: str) -> tuple[Rows, dict[str, str]]:
        """samples.parquet of a step (none for purely offline ones), and the inputs that follow from it."""
        inputs = {"data": data_hash}
        draws = step.draws()
        if not draws:
            return [], inputs
        for draw in draws:
            inputs |= {str(ref): self.policies.hash(ref) for ref in draw.policies}
        relative = f"{folder}/samples.parquet"
        facts = self.store.stage(f"{key}/sample", inputs, lambda: self._draw(draws, examples, key, relative, inputs))
        self._check_repetition(key, facts["repeating_share"])
        return read_table(self.store.root / relative), {
            **inputs,
            "samples": self.store.output_hash(f"{key}/sample", relative),
        }

    def _draw(self, draws: tuple[Draw, ...], examples: Rows, key: str, relative: str, inputs: dict[str, str]) -> Made:
        rows: Rows = []
        target = self.store.path(relative)
        # Named after the stage's inputs: a draw that a killed run finished may be of other policies than now.
        digest = hashlib.sha256(repr(sorted(inputs.items())).encode()).hexdigest()[:12]
        name = f"samples.{{}}.{digest}.partial.parquet"
        parts = [target.with_name(name.format(d.role)) if len(draws) > 1 else target for d in draws]
        for draw, part in zip(draws, parts, strict=True):
            if part != target and part.exists():
                rows += read_table(part)
                continue
            rows += sample_draw(
                self.policies,
                draw,
                examples,
                self.recipe.sampling,
                f"{key}/{draw.role}",
                part,
                self.progress,
            )
        if len(draws) > 1:
            write_table(target, rows, SAMPLES)
            for part in parts:
                part.unlink()
        texts = [row["text"] for row in rows]
        facts = {
            "responses": len(rows),
            "tokens": sum(len(row["token_ids"]) for row in rows),
            "cut_off": sum(row["finish_reason"] == "length" for row in rows),
            "empty": sum(not text.strip() for text in texts),
            "repeating_share": repeating_share(texts),
        }
        return Made((relative,), facts)

    def _check_repetition(self, key: str, share: float) -> None:
        bound = fit_settings(self.store, self.recipe, key).tripwires.repetition
        if bound is not None and share > bound:
            raise Tripwire(
                f"{key}: {share:.0%} of the samples repeat themselves (bound fit.tripwires.repetition = {bound:g}): "
                "the policy collapsed. Lower fit.learning_rate or fit.epochs and delete the last policy folder, "
                "so that it is fitted again; or start anew with a higher kl_to_reference or beta."
            )

    def _collect(self) -> None:
        """A fixed preference set from the start policy's samples and the oracle; later stages never ask it again."""
        config = self.recipe.data.collect
        assert config is not None
        step = Step(
            start=REFERENCE,
            responses=(Draw("own", config.samples, {REFERENCE: 1.0}),),
            pairing=PAIRINGS[config.pairing],
            objective=PairLogistic({}, 1.0),
            anchors={},
            judged=True,
        )
        examples = read_table(self.store.root / TRAIN)
        samples, inputs = self._sample("collect", "collect", step, examples, self.store.output_hash("data", TRAIN))
        self._judge_and_pair("collect", "collect", step, examples, samples, inputs)

        def freeze() -> Made:
            pairs = read_table(self.store.root / "collect/pairs.parquet")
            rows = _preference_rows(examples, pairs)
            write_table(self.store.path(COLLECTED), rows, EXAMPLES)
            return Made((COLLECTED,), {"pairs": len(rows)})

        pair_hash = self.store.output_hash("collect/pair", "collect/pairs.parquet")
        self.store.stage("collect/freeze", {"pairs": pair_hash}, freeze)

    def _train_file(self) -> tuple[str, str]:
        """The training table and its hash."""
        if self.recipe.data.collect is not None:
            return COLLECTED, self.store.output_hash("collect/freeze", COLLECTED)
        if self.recipe.data.teacher is not None:
            return TAUGHT, self.store.output_hash("teacher", TAUGHT)
        return TRAIN, self.store.output_hash("data", TRAIN)

    def _round(self, t: int) -> None:
        file, data_hash = self._train_file()
        path = self.store.root / file
        names = read_column(path, "example")
        steps = self.algorithm.steps(t, Facts(len(names)))
        examples = read_rows_at(path, round_indices(names, self.recipe.data.prompts_per_round, t, self.recipe.seed))
        for step in steps:
            made = PolicyRef(t + 1, step.trains)
            folder = round_folder(t, step.trains)
            pairs_folder = folder
            if isinstance(step.responses, Reuse):
                pairs_folder = round_folder(t, steps[step.responses.step].trains)
            else:
                samples, inputs = self._sample(folder, folder, step, examples, data_hash)
                self._judge_and_pair(folder, folder, step, examples, samples, inputs)
            self._anchor_and_fit(folder, pairs_folder, step, made)
        self._prune(t)

    def _anchor_and_fit(self, folder: str, pairs_folder: str, step: Step, made: PolicyRef) -> None:
        pair_file, anchor_file = f"{pairs_folder}/pairs.parquet", f"{folder}/anchors.parquet"
        t = made.round - 1
        # Reference and iterate are always measured: the log shows how far both kinds of response move.
        anchors = {"reference": REFERENCE, "iterate": PolicyRef(t), **step.anchors}
        inputs = {"pairs": self.store.output_hash(f"{pairs_folder}/pair", pair_file)}
        inputs |= {str(ref): self.policies.hash(ref) for ref in anchors.values()}
        settings = fit_settings(self.store, self.recipe, folder)

        def anchor() -> Made:
            pairs = read_table(self.store.root / pair_file)
            target = self.store.path(anchor_file)
            refs = list(anchors.values())
            known = [] if pairs_folder == folder else self._same_anchors(pairs_folder, settings)
            return Made(
                (anchor_file,),
                anchor_logps(self.policies, refs, pairs, settings, target, self.progress, known),
            )

        self.store.stage(f"{folder}/anchor", inputs, anchor)
        inputs = {
            "pairs": inputs["pairs"],
            "anchors": self.store.output_hash(f"{folder}/anchor", anchor_file),
            "start": self.policies.hash(step.start),
        }

        def fit() -> Made:
            pairs, stored = (read_table(self.store.root / name) for name in (pair_file, anchor_file))
            names = {name: self.policies.hash(ref) for name, ref in anchors.items()}
            examples = training_examples(pairs, stored, names)
            seed = noise_seed(self.recipe.seed, folder, "fit") % 2**32
            report = partial(self._track, self._steps_before(folder))
            return fit_step(self.policies, step, made, examples, settings, seed, self.progress, report)

        facts = self.store.stage(f"{folder}/fit", inputs, fit)
        seconds = self.store.manifest[f"{folder}/fit"]["seconds"]
        self.progress.say(
            f"{folder}  fit: {facts['steps']} steps, loss {facts['first_loss']:.4g} -> {facts['last_loss']:.4g}, "
            f"{facts['clip_share']:.0%} of steps clipped, {seconds:.0f} s"
        )

    def _same_anchors(self, folder: str, settings: FitConfig) -> Rows:
        """What the step whose pairs are used again has measured, if as this one would."""
        theirs = fit_settings(self.store, self.recipe, folder)
        if any(getattr(theirs, name) != getattr(settings, name) for name in ("layout", "attention", "precision")):
            return []
        return read_table(self.store.root / folder / "anchors.parquet")

    def _steps_before(self, folder: str) -> int:
        """Optimiser steps of the run's earlier fits."""
        done = {key: entry for key, entry in self.store.manifest.items() if key.endswith("/fit")}
        return sum(entry["facts"]["steps"] for key, entry in done.items() if key != f"{folder}/fit")

    def _track(self, before: int, row: dict[str, float]) -> None:
        values = {f"fit/{name}": value for name, value in row.items() if name != "step"}
        self.trackers.log(values, before + int(row["step"]))

    def _prune(self, t: int) -> None:
        """Delete iterates that neither later rounds nor the recipe's keep_iterates need."""
        keep = self.recipe.keep_iterates
        if keep == "all":
            return
        oldest = min(
            (self.algorithm.oldest_iterate(s) for s in range(t + 1, self.recipe.rounds)),
            default=t + 1,
        )
        for old in range(1, min(oldest, t + 1 - keep)):
            for seat in (step.trains for step in self.algorithm.steps(old - 1, Facts(1))):
                ref = PolicyRef(old, seat)
                if self.policies.exists(ref):
                    self.store.prune(f"{round_folder(old - 1, seat)}/fit", self.policies.location(ref))

    # ---- after training -----------------------------------------------------------------------

    def _evaluate(self) -> Summary:
        path, count = self.store.root / HELD_OUT, self.store.manifest["data"]["facts"]["held_out"]
        held_out = read_rows_at(path, range(min(count, self.recipe.evaluation.prompts or count)))
        data_hash = self.store.output_hash("data", HELD_OUT)
        inputs: dict[str, str] = {"data": data_hash}
        for ref in played(self.policies):
            own = {"data": data_hash, "policy": self.policies.hash(ref)}
            arguments = (self.policies, ref, held_out, self.progress)
            self.store.stage(f"evaluation/sample-{ref.round}", own, partial(sample_held_out, *arguments))
            file = f"evaluation/samples-{ref.round}.parquet"
            own["samples"] = inputs[file] = self.store.output_hash(f"evaluation/sample-{ref.round}", file)
            self.store.stage(f"evaluation/measure-{ref.round}", own, partial(measure, *arguments))
        for config in self.recipe.evaluation.opponents:
            file = ask_opponent(self.policies, config, held_out, data_hash, self.progress)
            inputs[file] = self.store.output_hash(f"evaluation/ask-{config.name}", file)
        self.progress.say("evaluation  judge")
        self.store.stage(SUMMARY_STAGE, inputs, lambda: summarise(self.policies, held_out, self._facts()))
        summary = read_summary(self.store.root / SUMMARY)
        write_report(summary, self.store.root / REPORT)
        values = {f"evaluation/{j['name']}/win_rate": j["win_rate"].value for j in summary["judgments"]}
        self.trackers.log(values, self._steps_before("") + 1)
        return summary

    def _facts(self) -> dict[str, Any]:
        """What the summary says of the run itself."""
        recipe, manifest = self.recipe, self.store.manifest
        rounds = []
        for t in range(recipe.rounds):
            prefix = f"{round_folder(t)}/"
            keys = [key for key in manifest if key.startswith(prefix)]
            stages = {key.removeprefix(prefix): {k: manifest[key][k] for k in ("seconds", "facts")} for key in keys}
            rounds.append({"round": t, "stages": stages})
        logs = [self.store.root / round_folder(t) / "fit.jsonl" for t in range(recipe.rounds)]
        weights = {str(PolicyRef(t)): self.policies.hash(PolicyRef(t)) for t in range(recipe.rounds + 1)}
        return {
            "name": self.store.root.name,
            "sparring_version": sparring.__version__,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "algorithm": self.algorithm.about._asdict(),
            "recipe": recipe.resolved(),
            "fit_settings": other_settings(self.store.root),
            "lock": {**read_json(self.store.root / LOCK), "weights": weights},
            "rounds": rounds,
            "fit": [[json.loads(line) for line in log.read_text().splitlines()] for log in logs],
            "dropped": manifest["data"]["facts"]["dropped"],
        }


def round_indices(names: Sequence[str], count: int | None, t: int, seed: int) -> Sequence[int]:
    """The examples of round t by place: all, or the t-th slice of a fixed shuffle that starts over at its end."""
    if count is None or count >= len(names):
        return range(len(names))
    order = sorted(range(len(names)), key=lambda i: noise_seed(seed, "order", names[i]))
    return [order[(t * count + i) % len(order)] for i in range(count)]


def _preference_rows(examples: Rows, pairs: Rows) -> Rows:
    """Pairs as examples with chosen and rejected responses, one example per pair."""
    known = {row["example"]: row for row in examples}
    rows = []
    for row in pairs:
        for index, pair in enumerate(row["pairs"]):
            chosen, rejected = row["responses"][pair["winner"]], row["responses"][pair["loser"]]
            responses = [
                {"role": role, "text": r["text"], "token_ids": r["token_ids"]}
                for role, r in (("chosen", chosen), ("rejected", rejected))
            ]
            name = row["example"] if index == 0 else f"{row['example']}-{index}"
            rows.append({**known[row["example"]], "example": name, "responses": responses})
    return rows
