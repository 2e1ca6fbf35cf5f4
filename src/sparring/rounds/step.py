"""One step of an algorithm, stage by stage: its responses become training pairs, and the pairs a policy.

`StepPairs` runs the sample, judge and pair stages, `StepFit` the anchor and fit stages. Each stage's inputs name what
it reads, by hash, so that a change runs exactly the later ones again. Leaves out: what a stage does (its own file), and
the order of steps (`run.py`).

    StepPairs(policies, recipe, round_folder(0), step, examples, progress).make(data_hash)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sparring.algorithms.algorithm import REFERENCE, Column, PolicyRef, Reuse, Step
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import FitConfig
from sparring.rounds.anchor import anchor_logps
from sparring.rounds.fit import fit_step, training_examples
from sparring.rounds.judge import judge_examples, training_guard
from sparring.rounds.pair import make_pairs
from sparring.rounds.policies import Policies
from sparring.rounds.resume import fit_settings
from sparring.rounds.sample import sample_draws
from sparring.rounds.store import Made
from sparring.rounds.tables import AnchorRow, Candidate, ExampleRow, PairRow, SampleRow, VerdictRow
from sparring.runtime.files import read_table
from sparring.runtime.layout import StepFolder
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed
from sparring.training.metrics import Tripwire

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
        """Run the stages that are not finished; `data_hash`: of the table that holds the examples."""
        inputs = {"data": data_hash}
        samples: list[SampleRow] = []
        if self.step.draws():
            samples = self._sample(inputs)
        responses = responses_of(self.step, self.examples, samples)
        verdicts: list[VerdictRow] = []
        if self.step.judged:
            verdicts = self._judge(inputs, responses)
        self._pair(inputs, responses, verdicts)

    @property
    def _seed(self) -> int:
        return noise_seed(self.recipe.seed, str(self.folder))

    def _sample(self, inputs: Hashes) -> list[SampleRow]:
        """The step's samples; adds what they were drawn from, and their hash, to `inputs`."""
        draws, store = self.step.draws(), self.policies.store
        file, key = self.folder.samples, self.folder.stage("sample")
        inputs |= {str(ref): self.policies.hash(ref) for draw in draws for ref in draw.policies}

        def work() -> Made:
            settings, seed, target = self.recipe.sampling, self.recipe.seed, store.path(file)
            arguments = self.policies, draws, self.examples, settings, seed, str(self.folder), target, inputs
            return Made((file,), sample_draws(*arguments, self.progress))

        counts = store.stage(key, inputs, work)
        self._check_repetition(counts["repeating_share"])
        inputs["samples"] = store.output_hash(key, file)
        return read_table(store.root / file)

    def _check_repetition(self, share: float) -> None:
        bound = fit_settings(self.policies.store, self.recipe, self.folder).tripwires.repetition
        if bound is not None and share > bound:
            raise Tripwire(
                f"{self.folder}: {share:.0%} of the samples repeat themselves "
                f"(bound fit.tripwires.repetition = {bound:g}): "
                "the policy collapsed. Lower fit.learning_rate or fit.epochs and delete the last policy folder, "
                "so that it is fitted again; or start anew with a higher kl_to_reference or beta."
            )

    def _judge(self, inputs: Hashes, responses: Sequence[Sequence[Candidate]]) -> list[VerdictRow]:
        """The oracle's verdicts; adds their hash to `inputs`."""
        store, file, key = self.policies.store, self.folder.verdicts, self.folder.stage("judge")

        def work() -> Made:
            assert self.recipe.oracle is not None
            guard, target = training_guard(store, self.recipe.oracle, self.policies.base), store.path(file)
            return Made(
                (file,),
                judge_examples(self.step.pairing, self.examples, responses, guard, self._seed, target, self.progress),
            )

        counts = store.stage(key, inputs, work)
        if counts["failed"]:
            self.progress.say(f"{self.folder}  judge: {counts['failed']} of {counts['comparisons']} comparisons failed")
        if counts.get("answers_cut"):
            self.progress.say(f"{self.folder}  judge: the oracle read {counts['answers_cut']} answers only in part")
        inputs["verdicts"] = store.output_hash(key, file)
        return read_table(store.root / file)

    def _pair(self, inputs: Hashes, responses: Sequence[Sequence[Candidate]], verdicts: Sequence[VerdictRow]) -> None:
        file, target = self.folder.pairs, self.policies.store.path(self.folder.pairs)

        def work() -> Made:
            return Made((file,), make_pairs(self.step, self.examples, responses, verdicts, self._seed, target))

        counts = self.policies.store.stage(self.folder.stage("pair"), inputs, work)
        drops = "".join(
            f", dropped {count} {what}: {reason}"
            for what in ("examples", "pairs")
            for reason, count in counts.get(f"dropped_{what}", {}).items()
        )
        self.progress.say(f"{self.folder}  pair: {counts['pairs']} pairs of {counts['examples']} examples{drops}")


def responses_of(step: Step, examples: Sequence[ExampleRow], samples: Sequence[SampleRow]) -> list[list[Candidate]]:
    """Each example's responses in the step's order, from the samples and the data."""
    assert step.responses
    assert not isinstance(step.responses, Reuse)
    drawn: dict[tuple[str, str], list[SampleRow]] = {}
    for sample in samples:
        drawn.setdefault((sample["example"], sample["role"]), []).append(sample)
    gathered: list[list[Candidate]] = []
    for example in examples:
        columns: dict[str, Candidate] = {r["role"]: {**r, "finish_reason": "stop"} for r in example["responses"]}
        rows: list[Candidate] = []
        for source in step.responses:
            if isinstance(source, Column):
                rows.append(columns[source.role])
            else:
                rows += sorted(drawn[example["example"], source.role], key=lambda sample: sample["index"])
        gathered.append(rows)
    return gathered


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
        inputs = {
            "pairs": pair_hash,
            "anchors": self._anchor(pair_hash),
            "start": self.policies.hash(self.step.start),
        }
        counts = store.stage(key, inputs, self._fit)
        self.progress.say(
            f"{self.folder}  fit: {counts['steps']} steps, loss {counts['first_loss']:.4g} -> "
            f"{counts['last_loss']:.4g}, {counts['clip_share']:.0%} of steps clipped, "
            f"{store.manifest[key]['seconds']:.0f} s"
        )

    @cached_property
    def anchors(self) -> Mapping[str, PolicyRef]:
        """Anchors by name; reference and iterate are always measured: the log shows how far responses move."""
        return {"reference": REFERENCE, "iterate": PolicyRef(self.made.round - 1), **self.step.anchors}

    @cached_property
    def settings(self) -> FitConfig:
        """How the policy is fitted."""
        return fit_settings(self.policies.store, self.recipe, self.folder)

    def _pairs(self) -> list[PairRow]:
        return read_table(self.policies.store.root / self.pair_folder.pairs)

    def _anchor(self, pair_hash: str) -> str:
        """The hash of the anchors' table."""
        store, file, key = self.policies.store, self.folder.anchors, self.folder.stage("anchor")
        refs = list(self.anchors.values())

        def work() -> Made:
            target, measured = store.path(file), self._measured_anchors()
            return Made(
                (file,),
                anchor_logps(self.policies, refs, self._pairs(), self.settings, target, self.progress, measured),
            )

        store.stage(key, {"pairs": pair_hash} | {str(ref): self.policies.hash(ref) for ref in refs}, work)
        return store.output_hash(key, file)

    def _measured_anchors(self) -> list[AnchorRow]:
        """Anchors of the step whose pairs are used again, if it measures as this one would."""
        if self.pair_folder == self.folder:
            return []
        other = fit_settings(self.policies.store, self.recipe, self.pair_folder)
        if any(getattr(other, name) != getattr(self.settings, name) for name in ("layout", "attention", "precision")):
            return []
        return read_table(self.policies.store.root / self.pair_folder.anchors)

    def _fit(self) -> Made:
        stored: list[AnchorRow] = read_table(self.policies.store.root / self.folder.anchors)
        weights = {name: self.policies.hash(ref) for name, ref in self.anchors.items()}
        examples = training_examples(self._pairs(), stored, weights)
        seed = noise_seed(self.recipe.seed, str(self.folder), "fit") % 2**32
        return fit_step(self.policies, self.step, self.made, examples, self.settings, seed, self.progress, self.report)
