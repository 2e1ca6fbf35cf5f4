"""A contest on disk: two sides' answers to the same instructions, judged, kept so that numbers can be computed again.

    out/manifest.json                  what was made from what, by hash
    out/answers/{a,b}.json             AlpacaEval's model outputs format
    out/annotations.json               AlpacaEval's annotations: A is output_2, B is output_1
    out/cache/                         every verdict as it came, so that none is paid for twice

A side is an answer file, a model (folder, hub name, pypi:PACKAGE), or a run's policy: RUN (its last), RUN:2, RUN:0.
Two equal answers tie and an empty one loses to any other, without the judge. A judge that sees places is asked in both
orders, and `orders` of annotations.json holds P(A wins) with A shown first and second. Leaves out: statistics
(`evaluation/`), several samples per prompt (a run's own evaluation has them).

    contest = Contest(Path("out"), Progress()); contest.play("runs/mine", "runs/mine:0", prompts, section, settings)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from sparring.contests.players import Side, prompts_between
from sparring.contests.sample_answers import sample_answers
from sparring.evaluation.annotations import Judgments, annotation_rows
from sparring.evaluation.answers import Answers, Instruction, Pairs, align, no_join, read_answers
from sparring.evaluation.decided_by_rule import decide, undecided
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import announce
from sparring.oracles.recorded import Recorded
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.store import Made, Store
from sparring.runtime.files import write_json
from sparring.runtime.layout import VERDICT_CACHE
from sparring.runtime.memory import release_memory
from sparring.runtime.progress import Progress

ANNOTATIONS = "annotations.json"
WAVE = 32
"""comparisons judged together; a killed judge loses at most these"""
NO_START = "/no start model here: name one in the oracle's section"
"""stands for `model: start` where neither side is a run or a model"""


class Contest:
    """A folder in which two sides meet; see the module."""

    def __init__(self, out: Path, progress: Progress) -> None:
        self.store, self.progress = Store(out), progress

    def play(
        self,
        ours: str,
        theirs: str,
        prompts: Sequence[Instruction] | None,
        oracle: Mapping[str, Any],
        sampling: Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        """Answer and judge what is not yet answered and judged.

        Raises:
            ValueError: a side or the oracle is not usable; or the folder holds verdicts of another judge.
            OracleError: too many comparisons failed; what was judged is kept.
        """
        transformers.utils.logging.disable_progress_bar()
        with self.store.locked():
            self.store = Store(self.store.root)
            self.store.check()
            sides = {"a": Side(ours, self.store.root), "b": Side(theirs, self.store.root)}
            judge: Guard | None = self._guard(oracle, list(sides.values()))
            prompts = prompts or prompts_between(sides["b"], sides["a"])
            if prompts is None:
                raise ValueError("--prompts: missing. Name the prompts, or give a side as an answer file or a run.")
            if any(side.file is None for side in sides.values()):
                judge = None  # it was built to find its faults early; its memory is for the policies now
                release_memory()
            # Files first: one that answers none of the prompts is refused before anything is sampled.
            order = sorted(sides, key=lambda name: sides[name].file is None)
            answers = {name: self._answers(name, sides[name], prompts, sampling, seed) for name in order}
            asked = {prompt.text: prompt.prompt for prompt in prompts}
            pairs = align(answers["a"], answers["b"], asked)
            pairs = pairs._replace(instructions=[asked[text] for text in pairs.instructions])
            judge = judge or self._guard(oracle, list(sides.values()))
            self._judge(pairs, prompts, answers["a"].name, answers["b"].name, judge)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of a finished contest, after its files were compared with their hashes.

        Raises:
            ValueError: the folder holds no finished contest, or a file of it was altered.
        """
        entry = finished_verdicts(self.store, ANNOTATIONS, "contest")
        self.store.check()
        sides = {name: self.store.manifest[f"answers/{name}"] for name in "ab"}
        told = {name: {"inputs": one["inputs"], **one["facts"]} for name, one in sides.items()}
        return {**entry["facts"], "sides": told}

    # ---- answers ------------------------------------------------------------------------------

    def _answers(
        self, name: str, side: Side, prompts: Sequence[Instruction], sampling: Mapping[str, Any], seed: int
    ) -> Answers:
        """A side's answers to `prompts`, in the folder from now on."""
        relative = f"answers/{name}.json"
        settings = side.settings(sampling)
        wanted = hashlib.sha256(repr(prompts).encode()).hexdigest()
        how = "" if settings is None else settings.model_dump_json(exclude={"vllm"})
        inputs = {"from": side.identity, "prompts": wanted, "sampling": f"{how} seed {seed}" if how else ""}

        def make() -> Made:
            if side.file is not None:
                return self._copy(relative, side.file, prompts)
            assert settings is not None
            return self._sample(relative, name, side, prompts, settings, seed)

        facts = self.store.stage(f"answers/{name}", inputs, make)
        if cut_off := facts.get("cut_off"):
            self.progress.say(f"{name}: {cut_off} of {facts['answers']} answers were cut off at the token limit")
        answers = read_answers(self.store.root / relative)
        # A folder of an earlier version does not say why.
        return Answers(answers.name, answers.texts, facts.get("unanswered", {}), Counter(facts.get("unusable", {})))

    def _copy(self, relative: str, file: Path, prompts: Sequence[Instruction]) -> Made:
        """The file's answers to `prompts`; those to others are counted."""
        given = read_answers(file)
        asked = {prompt.text for prompt in prompts}
        kept = {text: answer for text, answer in given.texts.items() if text in asked}
        rows = [{"instruction": t, "output": o, "generator": given.name} for t, o in kept.items()]
        if not rows:
            why = no_join(given.texts, [prompt.text for prompt in prompts])
            raise ValueError(
                f"answers: {str(file)!r} answers none of the {len(prompts)} prompts (joined by text). {why}"
            )
        write_json(self.store.path(relative), rows)
        unanswered = {text: reason for text, reason in given.unanswered.items() if text in asked}
        others = Counter(reason for text, reason in given.unanswered.items() if text not in asked)
        facts = {"source": str(file), "answers": len(rows), "not_asked": len(given.texts) - len(kept)}
        return Made((relative,), {**facts, "unanswered": unanswered, "unusable": dict(given.unusable + others)})

    def _sample(
        self,
        relative: str,
        name: str,
        side: Side,
        prompts: Sequence[Instruction],
        settings: SamplingConfig,
        seed: int,
    ) -> Made:
        """One fresh answer to every prompt that fits."""
        target = self.store.path(relative).with_suffix(".parquet")
        drawn, unanswered = sample_answers(side, prompts, settings, seed, 1, f"contest/{name}", target, self.progress)
        generator = f"{side.spec} ({side.identity[:12]})"
        rows = [
            {
                "instruction": row["instruction"],
                "output": row["text"],
                "generator": generator,
                "finish_reason": row["finish_reason"],
            }
            for row in drawn
        ]
        write_json(self.store.path(relative), rows)
        cut_off = sum(row["finish_reason"] == "length" for row in rows)
        facts = {"source": side.spec, "answers": len(rows), "cut_off": cut_off, "unanswered": unanswered}
        return Made((relative,), {**facts, **side.sampled_from()})

    # ---- verdicts -----------------------------------------------------------------------------

    def _guard(self, section: Mapping[str, Any], sides: Sequence[Side]) -> Guard:
        """The judge, which must be the one whose verdicts the folder holds."""
        start = next((str(side.policies.base) for side in reversed(sides) if side.file is None), NO_START)
        oracle = Recorded(build_oracle(section, start), self.store.path("cache/orders.jsonl"))
        guard = Guard(oracle, self.store.path(VERDICT_CACHE))
        refuse_other_judge(self.store, guard.identity)
        return guard

    def _judge(self, pairs: Pairs, asked: Sequence[Instruction], ours: str, theirs: str, guard: Guard) -> None:
        """The verdicts on all pairs, in the folder from now on."""
        inputs = {side: self.store.output_hash(f"answers/{side}", f"answers/{side}.json") for side in "ab"}
        inputs |= {"judge": guard.identity, "prompts": hashlib.sha256(repr(asked).encode()).hexdigest()}

        def make() -> Made:
            guard.probe(say=self.progress.say)
            preferences, rules = self._verdicts(pairs, guard)
            judgments = Judgments(
                model=ours,
                baseline=theirs,
                judge=guard.identity,
                instructions=pairs.instructions,
                outputs=pairs.ours,
                baseline_outputs=pairs.theirs,
                preferences=preferences,
                dropped=Counter(),
                digest="",
            )
            assert isinstance(guard.oracle, Recorded)
            compared = zip(pairs.instructions, pairs.ours, pairs.theirs, strict=True)
            orders = [guard.oracle.orders(Comparison(*each)) for each in compared]
            rows = [
                {**row, "orders": both, "decided_by": rule}
                for row, both, rule in zip(annotation_rows(judgments), orders, rules, strict=True)
            ]
            write_json(self.store.path(ANNOTATIONS), rows)
            return Made((ANNOTATIONS,), {"left_out": dict(pairs.left_out)})

        self.store.stage("judge", inputs, make)

    def _verdicts(self, pairs: Pairs, guard: Guard) -> tuple[np.ndarray, list[str]]:
        """P(A wins) of each pair, NaN where the judge failed; and who decided it."""
        compared = [Comparison(*each) for each in zip(pairs.instructions, pairs.ours, pairs.theirs, strict=True)]
        return judged_in_waves(compared, guard, WAVE, self.progress)


def judged_in_waves(
    comparisons: Sequence[Comparison], guard: Guard, wave: int, progress: Progress
) -> tuple[NDArray[np.float64], list[str]]:
    """P(a wins) of each, NaN where the judge failed, and who decided it; the price first, `wave` of them together."""
    announce(guard.oracle, undecided(comparisons), progress.say)
    preferences, rules = np.zeros(len(comparisons)), list[str]()
    with progress.task(f"judge {guard.identity[:40]}", len(comparisons)) as advance:
        for begin in range(0, len(comparisons), wave):
            part = comparisons[begin : begin + wave]
            preferences[begin : begin + wave], names = decide(part, guard)
            rules += names
            advance(len(part))
    return preferences, rules


def finished_verdicts(store: Store, file: str, what: str) -> dict[str, Any]:
    """The manifest's entry of the verdicts in `file`, which must be on the answers that the folder holds now.

    Raises:
        ValueError: there are none, or a command was stopped after it had put other answers there.
    """
    entry = store.manifest.get("judge")
    if entry is None or not (store.root / file).exists():
        raise ValueError(f"{store.root} holds no finished {what} (no {file} in its manifest.json).")
    for side in entry["inputs"].keys() - {"judge", "players", "prompts"}:
        outputs = store.manifest.get(f"answers/{side}", {}).get("outputs", {})
        if outputs.get(f"answers/{side}.json") != entry["inputs"][side]:
            raise ValueError(
                f"{store.root} holds no finished {what}: {file} is on other answers than those there now. Give the "
                "last command again, to its end."
            )
    return entry


def refuse_other_judge(store: Store, identity: str) -> None:
    """Raise a ValueError where the folder's verdicts are another judge's."""
    before = store.manifest.get("judge", {}).get("inputs", {}).get("judge", identity)
    if before != identity:
        raise ValueError(
            f"{store.root} holds verdicts of the judge {before}, asked is {identity}: verdicts of different judges "
            "cannot be compared. Give another --out."
        )


def read_orders(path: Path) -> tuple[np.ndarray, Counter[str]]:
    """N2: P(A wins) with A shown first and second, NaN where no order was recorded; and how many who decided."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    orders = [row["orders"] or (math.nan, math.nan) for row in rows]
    return np.array(orders, dtype=np.float64).reshape(-1, 2), Counter(row["decided_by"] for row in rows)
