"""Two players compared on disk: their answers to the same instructions, judged, so that numbers can be computed again.

    out/answers/{a,b}.json             AlpacaEval's model outputs format
    out/annotations.json               AlpacaEval's annotations: A is output_2, B is output_1
    out/result.json, out/index.html    the numbers and the page, by `finish`
    out/manifest.json, out/cache/      as in every contest (`folder.py`)

A player is an answer file, a model (folder, hub name, pypi:PACKAGE), or a run's policy: RUN (its last), RUN:2, RUN:0.
Two equal answers tie and an empty one loses to any other, without the judge. A judge that sees places is asked in both
orders, and `orders` of annotations.json holds P(A wins) with A shown first and second. Leaves out: statistics
(`evaluation/`), several samples per prompt (a run's own evaluation has them).

    folder = HeadToHeadFolder(Path("out"), Progress())
    folder.play("runs/mine", "runs/mine:0", prompts, section, settings)
    folder.finish()["win_rate"]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparring import __version__
from sparring.contests.folder import ContestFolder, answer_path, need_prompts
from sparring.contests.players import (
    AnswerFile,
    Player,
    PolicyPlayer,
    find_player,
    prompts_between,
    same_policy,
    sampled_otherwise,
)
from sparring.contests.sample_answers import Questions, store_answers
from sparring.evaluation.annotations import Judgments, annotation_rows, read_judgments
from sparring.evaluation.answers import Answers, Instruction, Pairs, align, read_answers
from sparring.evaluation.decided_by_rule import JUDGE
from sparring.evaluation.head_to_head import cautions, compare, view
from sparring.evaluation.result import finite
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.recorded import Recorded
from sparring.report.versus import write_versus
from sparring.rounds.store import Made
from sparring.runtime.files import hash_file, read_json, write_json
from sparring.runtime.locks import locked_folder
from sparring.runtime.shown import Shown

ANNOTATIONS, WAVE = "annotations.json", 32


class HeadToHeadFolder(ContestFolder[Answers]):
    """A folder in which A meets B; see the module."""

    verdicts, wave = ANNOTATIONS, WAVE

    def play(
        self,
        a: str,
        b: str,
        prompts: Sequence[Instruction] | None,
        oracle: Mapping[str, Any],
        sampling: Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        """Answer and judge what is not yet answered and judged.

        Raises:
            ValueError: a player or the oracle is not usable; or the folder holds verdicts of another judge.
            OracleError: too many comparisons failed; the other verdicts are stored.
        """
        with self._locked():
            players: dict[str, Player] = {"a": find_player(a, self.store.root), "b": find_player(b, self.store.root)}
            prompts = need_prompts(prompts or prompts_between(players["b"], players["a"]))
            questions = Questions(prompts, sampling, seed)
            answers, guard = self._answered(players, questions, partial(self._guard, oracle, players))
            asked = {prompt.text: prompt.prompt for prompt in prompts}
            pairs = align(answers["a"], answers["b"], asked)
            pairs = pairs._replace(instructions=[asked[text] for text in pairs.instructions])
            self._judge(pairs, questions, (answers["a"].name, answers["b"].name), guard)

    def facts(self) -> dict[str, Any]:
        """The manifest's counts of a finished contest, and of its sides "a" and "b".

        Raises:
            ValueError: the folder holds no finished contest, or a file of it was altered.
        """
        entry = self._finished()
        stages = {name: self.store.manifest[f"answers/{name}"] for name in "ab"}
        sides = {name: {"inputs": stage["inputs"], **stage["facts"]} for name, stage in stages.items()}
        return {**entry["facts"], "sides": sides}

    def finish(self) -> dict[str, Any]:
        """Compute the result from the stored files alone, write it as result.json and index.html, and return it.

        Raises:
            ValueError: the folder holds no finished contest, another process works on it, or a file of it was altered.
        """
        self.facts()  # no folder is locked, nor made, that holds no contest
        with locked_folder(self.store.root):
            return Shown(self._finish(), view)

    def _finish(self) -> dict[str, Any]:
        folder, facts = self.store.root, self.facts()
        judgments = read_judgments(folder / ANNOTATIONS)
        orders, decided = read_orders(folder / ANNOTATIONS)
        result = compare(judgments, orders)
        failed = result["prompts"] - result["judged"]
        files = ("answers/a.json", "answers/b.json", ANNOTATIONS)
        result |= {
            "sparring_version": __version__,
            "left_out": {**facts["left_out"], **({"without a verdict": failed} if failed else {})},
            "decided_by_rule": {rule: count for rule, count in decided.items() if rule != JUDGE},
            "sides": facts["sides"],
            "files": {name: {"path": name, "sha256": hash_file(folder / name)} for name in files},
        }
        result["cautions"] = sampling_cautions(result["sides"]) + cautions(result)
        write_json(folder / "result.json", finite(result))
        write_versus(result, judgments, orders, folder / "index.html")
        return result

    # ---- answers ------------------------------------------------------------------------------

    def _answers(self, name: str, player: Player, questions: Questions) -> Answers:
        how = player.how_sampled(questions.sampling)
        sampling = f"{how} seed {questions.seed}" if how else ""
        inputs = {"from": player.identity, "prompts": questions.digest, "sampling": sampling, **player.files}
        make = self._copied if isinstance(player, AnswerFile) else self._sampled
        counts = self.store.stage(f"answers/{name}", inputs, partial(make, name, player, questions))
        if cut_off := counts.get("cut_off"):
            self.progress.say(f"{name}: {cut_off} of {counts['answers']} answers were cut off at the token limit")
        answers = read_answers(self.store.root / answer_path(name))
        # A folder of an earlier version does not say why an answer is missing.
        return Answers(answers.name, answers.texts, counts.get("unanswered", {}), Counter(counts.get("unusable", {})))

    def _copied(self, name: str, player: AnswerFile, questions: Questions) -> Made:
        """The file's answers to the prompts; those to others are counted."""
        answers, texts = player.answers, player.answers_to(questions.prompts)
        rows = [{"instruction": t, "output": o, "generator": answers.name} for t, o in texts.items()]
        write_json(self.store.path(answer_path(name)), rows)
        asked = {prompt.text for prompt in questions.prompts}
        unanswered = {text: reason for text, reason in answers.unanswered.items() if text in asked}
        others = Counter(reason for text, reason in answers.unanswered.items() if text not in asked)
        counts = {"source": str(player.path), "answers": len(rows), "not_asked": len(answers.texts) - len(texts)}
        reasons = {"unanswered": unanswered, "unusable": dict(answers.unusable + others)}
        return Made((answer_path(name),), {**counts, **reasons})

    def _sampled(self, name: str, player: PolicyPlayer, questions: Questions) -> Made:
        return store_answers(self.store, answer_path(name), f"contest/{name}", player, questions, self.progress)

    def _guard(self, section: Mapping[str, Any], players: Mapping[str, Player]) -> Guard:
        """The judge; `model: start` in its section is B's start model, or A's where B has none."""
        start = players["b"].start_model or players["a"].start_model
        return self._guarded(Recorded(build_oracle(section, start), self.store.path("cache/orders.jsonl")))

    def _judge(self, pairs: Pairs, questions: Questions, names: tuple[str, str], guard: Guard) -> None:
        inputs = {**self._answer_hashes("ab"), "judge": guard.identity, "prompts": questions.digest}
        self.store.stage("judge", inputs, partial(self._annotated, pairs, names, guard))

    def _annotated(self, pairs: Pairs, names: tuple[str, str], guard: Guard) -> Made:
        """AlpacaEval's annotations of all pairs, with both orders of each verdict and who decided it."""
        guard.probe(say=self.progress.say)
        compared = [
            Comparison(*each) for each in zip(pairs.instructions, pairs.outputs, pairs.baseline_outputs, strict=True)
        ]
        preferences, rules = self._judged(compared, guard)
        judgments = Judgments(
            model=names[0],
            baseline=names[1],
            judge=guard.identity,
            instructions=pairs.instructions,
            outputs=pairs.outputs,
            baseline_outputs=pairs.baseline_outputs,
            preferences=preferences,
        )
        assert isinstance(guard.oracle, Recorded)
        rows = [
            {**row, "orders": guard.oracle.orders(comparison), "decided_by": rule}
            for row, comparison, rule in zip(annotation_rows(judgments), compared, rules, strict=True)
        ]
        write_json(self.store.path(ANNOTATIONS), rows)
        return Made((ANNOTATIONS,), {"left_out": dict(pairs.left_out)})


def sampling_cautions(sides: Mapping[str, Any]) -> list[str]:
    """Cautions where A and B are the same policy, or were sampled with other settings."""
    settings_a, settings_b = (sides[name]["inputs"]["sampling"].rpartition(" seed ")[0] for name in ("a", "b"))
    itself = same_policy(sides["a"], sides["b"], (settings_a, settings_b))
    return [itself] if itself else sampled_otherwise("A", "B", settings_a, settings_b)


def read_orders(path: Path) -> tuple[np.ndarray, Counter[str]]:
    """(N, 2): P(A wins) with A shown first and second, NaN where no order was stored; and counts of who decided."""
    rows = read_json(path)
    orders = [row["orders"] or (math.nan, math.nan) for row in rows]
    return np.array(orders, dtype=np.float64).reshape(-1, 2), Counter(row["decided_by"] for row in rows)
