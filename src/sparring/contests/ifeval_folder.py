"""IFEval on policies: their answers in a folder, so that a stopped evaluation goes on, and the numbers of all players.

    out/answers/{before,after}.json   a policy's answers, in AlpacaEval's form
    out/manifest.json                 their hashes, and those of what they were made from

A player is an answer file, a model, or a run's policy, as in head to head. Policies answer greedily with at most 1,280
tokens, as lm-eval has it, unless told otherwise. Leaves out: the numbers (`evaluation/ifeval.py`).

    IfevalFolder(Path("out"), Progress()).play({"after": "runs/mine"}, prompts, {}, seed=0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import transformers

from sparring.contests.folder import answer_path
from sparring.contests.players import AnswerFile, Player, PolicyPlayer, find_player, sampled_otherwise
from sparring.contests.sample_answers import Questions, store_answers
from sparring.data.evaluation_only import is_evaluation_only
from sparring.evaluation.answers import is_answer_file, read_answers
from sparring.evaluation.ifeval import COUNT, IfevalPrompts, difference, judge, scores, shared
from sparring.evaluation.overlap import find_overlap, read_prompts
from sparring.rounds.store import Store
from sparring.runtime.layout import TRAIN, is_run
from sparring.runtime.locks import locked_folder
from sparring.runtime.progress import Progress

SAMPLING: Mapping[str, Any] = {"temperature": 0.0, "max_new_tokens": 1280}
"""lm-eval's settings of the task"""


@dataclass(frozen=True, slots=True)
class Answered:
    """One player's answers, and what is known about them."""

    name: str
    texts: dict[str, str]
    facts: dict[str, Any]
    """source, sampling settings, answers that were cut off, and what was left out by reason"""


class IfevalFolder:
    """The answers of one policy or two; `out` may be None where only files play."""

    def __init__(self, out: Path | None, progress: Progress) -> None:
        self.out, self.progress = out, progress

    def play(
        self, specs: Mapping[str, str], prompts: IfevalPrompts, sampling: Mapping[str, Any], seed: int
    ) -> dict[str, Any]:
        """Answer what is not yet answered, and score it: "after" alone, or beside "before", paired by prompt.

        Raises:
            ValueError: a player is not usable, a policy plays and there is no folder, or no prompt is answered.
        """
        if self.out is None and not all(map(is_answer_file, specs.values())):
            raise ValueError("--out: missing. A policy's answers are stored there, so that a stopped command goes on.")
        players: dict[str, Player] = {name: find_player(spec, self.out or Path()) for name, spec in specs.items()}
        questions = Questions(prompts.prompts, {**SAMPLING, **sampling}, seed)
        sides = {name: self._answered(name, player, questions) for name, player in players.items()}
        return _result(prompts, sides) | {"training": _training(prompts, players)}

    def _answered(self, name: str, player: Player, questions: Questions) -> Answered:
        if isinstance(player, AnswerFile):
            asked = {prompt.text for prompt in questions.prompts}
            answers = player.answers
            left_out = answers.unusable + Counter(answers.unanswered.values())
            left_out["answers to other prompts"] = len(answers.texts.keys() - asked)
            return Answered(answers.name, answers.texts, {"source": player.spec, "left_out": dict(+left_out)})
        assert isinstance(player, PolicyPlayer)
        assert self.out is not None
        how = player.how_sampled(questions.sampling)
        inputs = {"from": player.identity, "prompts": questions.digest, "sampling": f"{how} seed {questions.seed}"}
        transformers.utils.logging.disable_progress_bar()
        with locked_folder(self.out):
            with Store(self.out).locked() as store, store.first_work():
                store.check()
                make = partial(
                    store_answers, store, answer_path(name), f"ifeval/{name}", player, questions, self.progress
                )
                counts = store.stage(f"answers/{name}", {**inputs, **player.files}, make)
            texts = read_answers(self.out / answer_path(name)).texts
        facts = {"source": player.spec, "cut_off": counts["cut_off"], "sampling": how}
        return Answered(player.spec, texts, {**facts, "left_out": dict(Counter(counts["unanswered"].values()))})


def _result(prompts: IfevalPrompts, sides: Mapping[str, Answered]) -> dict[str, Any]:
    texts = dict(zip(sides, shared(prompts, [side.texts for side in sides.values()]), strict=True))
    verdicts = {name: judge(prompts, own) for name, own in texts.items()}
    models = {
        name: {"name": side.name, **side.facts, "empty": verdicts[name].empty, **_unanswered(prompts, side)}
        for name, side in sides.items()
    }
    scored = len(verdicts["after"].prompts)
    settings = [side.facts.get("sampling", "") for side in sides.values()]
    return {
        "benchmark": "ifeval",
        "prompts": scored,
        "asked": len(prompts.prompts),
        "instructions": len(verdicts["after"].kinds),
        "whole": scored == COUNT and all(map(is_evaluation_only, verdicts["after"].prompts)),
        "contradictory": prompts.contradictory,
        "left_out": dict(prompts.left_out),
        "models": models,
        "scores": {name: scores(own) for name, own in verdicts.items()},
        "difference": difference(verdicts["before"], verdicts["after"]) if "before" in verdicts else None,
        "cautions": sampled_otherwise(*(side.name for side in sides.values()), *settings) if len(sides) == 2 else [],
    }


def _unanswered(prompts: IfevalPrompts, side: Answered) -> dict[str, int]:
    return {"unanswered": sum(prompt.text not in side.texts for prompt in prompts.prompts)}


def _training(prompts: IfevalPrompts, players: Mapping[str, Player]) -> dict[str, Any]:
    """By run, how many of the prompts its training prompts hold: such scores measure memory."""
    runs = {str(player.run) for player in players.values() if isinstance(player, PolicyPlayer) and player.run}
    texts = [prompt.text for prompt in prompts.prompts]
    return {
        run: {key: value for key, value in asdict(find_overlap(read_prompts(run).texts, texts)).items() if key in KEPT}
        for run in sorted(runs)
        if (Path(run) / TRAIN).is_file()
    }


KEPT = ("exact", "overlapping")


def start_of(spec: str) -> str | None:
    """RUN:0 of a run that is named without a round: a run is scored beside its start. None for others."""
    return f"{spec}:0" if is_run(Path(spec).expanduser()) else None
