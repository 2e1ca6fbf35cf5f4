"""One step of an algorithm, stage by stage: its responses become training pairs, and the pairs a policy.

`StepPairs` runs the sample, judge and pair stages, `StepFit` the anchor and fit stages. Each stage's inputs name what
it reads, by hash, so that a change runs exactly the later ones again. Leaves out: what a stage does (its own file), and
the order of steps (`run.py`).

    StepPairs(policies, recipe, round_folder(0), step, examples, progress).make(data_hash)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from sparring.algorithms.algorithm import REFERENCE, PolicyRef, Step
from sparring.algorithms.pairing import AgainstBaseline
from sparring.environments.environment import Environment, build_environment
from sparring.oracles.guard import Guard
from sparring.oracles.on_workers import computed_elsewhere, portable
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import FitConfig
from sparring.rounds.anchor import anchor_logps
from sparring.rounds.episode import Episodes
from sparring.rounds.fit import fit_step, training_examples
from sparring.rounds.judge import JudgeShards, judge_examples, training_guard
from sparring.rounds.judge_while_sampling import judging
from sparring.rounds.pair import make_pairs, responses_of
from sparring.rounds.play import play_stage
from sparring.rounds.policies import Policies
from sparring.rounds.prepare import longest_prompt
from sparring.rounds.resume import fit_settings
from sparring.rounds.rewards import Rewards
from sparring.rounds.sample import sample_draws
from sparring.rounds.store import Counts, Made
from sparring.rounds.tables import AnchorRow, Candidate, ExampleRow, NotesRow, PairRow, SampleRow, TurnRow, VerdictRow
from sparring.rounds.turns import played
from sparring.runtime.errors import Tripwire
from sparring.runtime.files import read_table
from sparring.runtime.layout import StepFolder, previous, title_of
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed
from sparring.runtime.words import counted

Hashes = dict[str, str]


@dataclass(frozen=True)
class StepPairs:
    """The training pairs of a step, from its samples and the oracle."""

    policies: Policies
    recipe: Recipe
    folder: StepFolder
    step: Step
    examples: Sequence[ExampleRow]
    progress: Progress

    def make(self, data_hash: str) -> None:
        """Run the stages that are not finished; `data_hash` is the hash of the table that holds the examples."""
        inputs = {"data": data_hash}
        if self.recipe.environment is not None:
            StepEpisodes(self).make(inputs)
            return
        samples = self._sample(inputs) if self.step.draws() else []
        responses = responses_of(self.step, self.examples, samples)
        verdicts = self._judge(inputs, responses) if self.step.judged else self._given(responses)
        self.pair(inputs, partial(make_pairs, self.step, self.examples, responses, verdicts))

    @property
    def seed(self) -> int:
        """Of judging and pairing."""
        return noise_seed(self.recipe.seed, self.folder)

    def _sample(self, inputs: Hashes) -> list[SampleRow]:
        """The step's samples; adds what they were drawn from, and their hash, to `inputs`."""
        draws, store = self.step.draws(), self.policies.store
        inputs |= {str(ref): self.policies.hash(ref) for draw in draws for ref in draw.policies}

        def make(target: Path) -> Counts:
            settings, seed = self.recipe.sampling, self.recipe.seed
            arguments = self.policies, draws, self.examples, settings, seed, self.folder, target, inputs
            if not self._judges_while_sampling():
                return sample_draws(*arguments, self.progress)
            with judging(self.step, self.examples, self.guard, self.seed, self.progress) as judged:
                counts = sample_draws(*arguments, self.progress, judged.on_rows)
            return {**counts, "seconds_judging": round(judged.seconds, 1)}

        counts, samples_hash = store.file(self.folder.stage("sample"), self.folder.samples, inputs, make)
        self.check_repetition(counts["repeating_share"])
        inputs["samples"] = samples_hash
        return read_table(store.root / self.folder.samples)

    def _judges_while_sampling(self) -> bool:
        """Whether the oracle gives its verdicts elsewhere, while this process has samples to draw."""
        oracle, asked = self.recipe.oracle, self.recipe.judge_while_sampling
        return self.step.judged and oracle is not None and computed_elsewhere(oracle, asked)

    @cached_property
    def guard(self) -> Guard:
        """The recipe's oracle, with the verdicts that the run's file holds."""
        assert self.recipe.oracle is not None
        return training_guard(self.policies, self.recipe.oracle, self.progress)

    def check_repetition(self, share: float) -> None:
        """Raise Tripwire where too many samples repeat themselves."""
        bound = fit_settings(self.policies.store, self.recipe, self.folder).tripwires.repetition
        if bound is not None and share > bound:
            raise Tripwire(
                f"{title_of(self.folder)}: {share:.0%} of the samples repeat themselves "
                f"(bound fit.tripwires.repetition = {bound:g}): "
                "the policy collapsed. Lower fit.learning_rate or fit.epochs and delete the last policy folder, "
                "so that it is fitted again; or start anew with a higher kl_to_reference or beta."
            )

    def _judge(self, inputs: Hashes, responses: Sequence[Sequence[Candidate]]) -> list[VerdictRow]:
        """The oracle's verdicts; adds their hash to `inputs`."""
        store, step = self.policies.store, self.step

        def make(target: Path) -> Counts:
            section, guard = self.recipe.oracle or {}, self.guard
            judge = JudgeShards(section, self.policies, guard.identity) if portable(section) else None
            arguments = self.examples, responses, guard, self.seed, target, self.progress, judge
            return judge_examples(step.pairing, *arguments)

        counts, verdicts_hash = store.file(self.folder.stage("judge"), self.folder.verdicts, inputs, make)
        if counts["failed"] and store.ran(self.folder.stage("judge")):
            self.progress.say(f"judge: {counts['failed']} of {counts['comparisons']} comparisons failed")
        if counts.get("answers_cut") and store.ran(self.folder.stage("judge")):
            self.progress.say(f"judge: the oracle read {counts['answers_cut']} answers only in part")
        inputs["verdicts"] = verdicts_hash
        return read_table(store.root / self.folder.verdicts)

    def _given(self, responses: Sequence[Sequence[Candidate]]) -> list[VerdictRow]:
        """The data's own probabilities as verdicts, where the step asks for them."""
        if not self.step.given_preferences:
            return []
        verdicts: list[VerdictRow] = []
        for example, candidates in zip(self.examples, responses, strict=True):
            roles = [candidate["role"] for candidate in candidates]
            a, b, known = roles.index("chosen"), roles.index("rejected"), example.get("preference")
            verdicts.append({"example": example["example"], "a": a, "b": b, "preference": known})
        return verdicts

    def pair(self, inputs: Hashes, make: Callable[[int, Path], Counts]) -> None:
        """The pair stage: `make` writes them, with a seed, to a path."""
        store, key = self.policies.store, self.folder.stage("pair")
        counts, _ = store.file(key, self.folder.pairs, inputs, partial(make, self.seed))
        if not store.ran(key):
            return
        drops = "".join(
            f", dropped {counted(count, what)}: {reason}"
            for what in ("example", "pair")
            for reason, count in counts.get(f"dropped_{what}s", {}).items()
        )
        made = counted(counts["pairs"], "pair") if counts["pairs"] else "whole groups"  # as some objectives take them
        self.progress.say(f"pair: {made} of {counted(counts['examples'], 'example')}{drops}")


@dataclass(frozen=True)
class StepEpisodes:
    """The training pairs of a step whose policy plays the roles of an environment."""

    of: StepPairs

    def make(self, inputs: Hashes) -> None:
        """Run the sample and pair stages; `inputs` holds the hash of the table of tasks."""
        step, folder, store = self.of.step, self.of.folder, self.of.policies.store
        environment = build_environment(self.of.recipe.environment or {})
        self._play(environment, inputs)
        turns: list[TurnRow] = read_table(store.root / folder.turns)
        examples: list[ExampleRow] = read_table(store.root / folder.prompts)
        responses = responses_of(step, examples, read_table(store.root / folder.samples))
        decay = step.pairing.decay if isinstance(step.pairing, AgainstBaseline) else None
        before = {} if decay is None else self._baselines()
        rewards = Rewards.of(turns, environment.rewards, before, decay)
        if before:
            inputs["baselines"] = repr(sorted(before.items()))

        def make(seed: int, target: Path) -> Counts:
            counts = make_pairs(step, examples, responses, rewards.judge, seed, target, by_role=True)
            return {**counts, "baselines": dict(rewards.after)}

        self.of.pair(inputs, make)

    def _play(self, environment: Environment, inputs: Hashes) -> None:
        """The sample stage; adds the hashes of what it made to `inputs`."""
        of, store, recipe, folder = self.of, self.of.policies.store, self.of.recipe, self.of.folder
        ((draw,), key) = of.step.draws(), folder.stage("sample")
        (ref,) = draw.policies
        players = {role: REFERENCE if role in recipe.partners else ref for role in environment.roles}
        # Against a baseline every reply counts for itself, wherever else its prompt came up.
        siblings = 1 if isinstance(of.step.pairing, AgainstBaseline) else None
        settings = recipe.sampling, recipe.seed, folder, folder, longest_prompt(of.policies, recipe)
        kept = (folder.notes,) if environment.remembers else ()
        notes = self._notes(inputs) if kept else {}
        how = Episodes(
            of.policies, environment, players, draw.count, siblings, *settings, notes=notes, oracle=recipe.oracle
        )
        files = folder.prompts, folder.samples, folder.turns, *kept
        counts = play_stage(how, key, files, inputs, of.examples, recipe.trained_roles(), of.progress)
        of.check_repetition(counts["repeating_share"])
        if store.ran(key):
            of.progress.say(played(counts))
        inputs |= {file: store.output_hash(key, file) for file in files[:3]}

    def _notes(self, inputs: Hashes) -> dict[str, list[str]]:
        """By task, what the rounds before this one noted; adds its hash to `inputs`."""
        store, before = self.of.policies.store, previous(self.of.folder)
        if before is None:
            return {}
        inputs["notes"] = store.output_hash(before.stage("sample"), before.notes)
        rows: list[NotesRow] = read_table(store.root / before.notes)
        return {row["task"]: row["notes"] for row in rows}

    def _baselines(self) -> dict[str, float]:
        """The roles' mean rewards as the round before this one left them."""
        before = previous(self.of.folder)
        return {} if before is None else self.of.policies.store.manifest[before.stage("pair")]["facts"]["baselines"]


@dataclass(frozen=True)
class StepFit:
    """The policy that a step trains, from its pairs."""

    policies: Policies
    recipe: Recipe
    folder: StepFolder
    pair_folder: StepFolder
    """of the step whose pairs are used: its own, or an earlier one's of the same round"""
    step: Step
    made: PolicyRef
    progress: Progress
    report: Callable[[dict[str, float]], None]
    """gets the metrics of every optimiser step"""

    def make(self) -> None:
        """Run the stages that are not finished."""
        store, key = self.policies.store, self.folder.stage("fit")
        pair_hash = store.output_hash(self.pair_folder.stage("pair"), self.pair_folder.pairs)
        start = self.policies.hash(self.step.start)
        inputs = {"pairs": pair_hash, "anchors": self._anchor(pair_hash), "start": start, **self._moments()}
        counts = store.stage(key, inputs, self._fit)
        if not store.ran(key):
            return
        if self.policies.warm is not None and self.recipe.model.lora is None:
            self.policies.warm.now_holds("trained", self.policies.hash(self.made))
        self.progress.say(
            f"fit: {counted(counts['steps'], 'step')}, loss {counts['first_loss']:.4g} -> "
            f"{counts['last_loss']:.4g}, {counts['clip_share']:.0%} of steps clipped, "
            f"{store.manifest[key]['seconds']:.0f} s"
        )

    @cached_property
    def anchors(self) -> Mapping[str, PolicyRef]:
        """Anchors by name; reference and iterate are always measured: the log shows how far responses move."""
        return {"reference": REFERENCE, "iterate": PolicyRef(self.made.round - 1), **self.step.anchors}

    @cached_property
    def settings(self) -> FitConfig:
        """The `fit` section that this step uses."""
        return fit_settings(self.policies.store, self.recipe, self.folder)

    def _pairs(self) -> list[PairRow]:
        return read_table(self.policies.store.root / self.pair_folder.pairs)

    def _anchor(self, pair_hash: str) -> str:
        """The hash of the anchors' table."""
        refs = list(self.anchors.values())
        inputs = {"pairs": pair_hash} | {str(ref): self.policies.hash(ref) for ref in refs}

        def make(target: Path) -> Counts:
            measured = self._measured_anchors()
            return anchor_logps(self.policies, refs, self._pairs(), self.settings, target, self.progress, measured)

        return self.policies.store.file(self.folder.stage("anchor"), self.folder.anchors, inputs, make)[1]

    def _measured_anchors(self) -> list[AnchorRow]:
        """The anchors of the step whose pairs are used again, if they were measured as this one's would be."""
        if self.pair_folder == self.folder:
            return []
        other = fit_settings(self.policies.store, self.recipe, self.pair_folder)
        if any(getattr(other, name) != getattr(self.settings, name) for name in ("layout", "attention", "precision")):
            return []
        return read_table(self.policies.store.root / self.pair_folder.anchors)

    def _moments(self) -> Hashes:
        """The hash of the moments that the round before handed on, where this fit goes on with them."""
        store, before = self.policies.store, previous(self.folder)
        if before is None or not self.settings.keep_optimizer:
            return {}
        outputs = store.manifest.get(before.stage("fit"), {}).get("outputs", {})
        return {"moments": outputs[before.moments]} if before.moments in outputs else {}

    def _fit(self) -> Made:
        stored: list[AnchorRow] = read_table(self.policies.store.root / self.folder.anchors)
        weights = {name: self.policies.hash(ref) for name, ref in self.anchors.items()}
        examples = training_examples(self._pairs(), stored, weights)
        seed = noise_seed(self.recipe.seed, self.folder, "fit") % 2**32
        moments = self._moments().get("moments", "")
        before = previous(self.folder)
        if moments and before is not None and not (self.policies.store.root / before.moments).exists():
            raise ValueError(
                f"fit.keep_optimizer: {self.policies.store.root / before.moments} is not on disk any more, so "
                f"{title_of(self.folder)} cannot be fitted again. Raise keep_iterates in a new run (--out), or restore "
                "the file."
            )
        arguments = self.policies, self.step, self.made, examples, self.settings, seed, self.progress, self.report
        return fit_step(*arguments, moments)
