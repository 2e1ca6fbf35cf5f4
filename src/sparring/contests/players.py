"""The players of a comparison: answer files, and policies that can be asked (a model, a run's policy, a run's average).

RUN:average is the arithmetic mixture of the policies after each round: every answer comes whole from one of them, which
the seed chooses, all equally likely. It is the average policy of the theorems and no one model: it can be asked, and
has no weights to score with. Leaves out: sampling from a policy (`sample_answers.py`).

    find_player("runs/mine:2", Path("out")).identity
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import REFERENCE, PolicyRef
from sparring.evaluation.answers import Answers, Instruction, is_answer_file, no_join, read_answers
from sparring.recipe.sections import ModelConfig, SamplingConfig
from sparring.rounds.policies import Policies
from sparring.rounds.policy_files import check_policy
from sparring.rounds.resume import read_run_recipe
from sparring.rounds.store import Store
from sparring.runtime.files import hash_file, read_json, read_table
from sparring.runtime.layout import HELD_OUT, evaluation_stage, held_out_samples, is_run, refuse_folder_of_runs

AVERAGE = "average"
"""in place of a round: the mixture of the policies after each round"""


class Player(ABC):
    """A participant of a comparison. The defaults are those of players that no run made."""

    start_model: str | None = None
    """folder of the model that `model: start` of an oracle stands for"""
    oracle: dict[str, Any] | None = None
    """section of the oracle in its run's recipe"""
    samples: int = 4
    """answers per prompt, unless the user says how many"""

    def __init__(self, spec: str) -> None:
        """`spec` is the player's name in the user's words."""
        self.spec = spec

    @property
    @abstractmethod
    def identity(self) -> str:
        """Hash of all that the answers depend on, except the prompts and the sampling settings."""

    @property
    def files(self) -> dict[str, str]:
        """Further inputs of its answers, by hash: files of a policy that are no part of the identity."""
        return {}

    @abstractmethod
    def prompts(self, answered: bool = False) -> list[Instruction] | None:
        """A file's instructions (only those with answers, if `answered`), or a run's held-out ones; None: neither."""

    def how_sampled(self, overrides: Mapping[str, Any]) -> str:
        """The sampling settings with `overrides` of single fields, as JSON; "" where they are not known."""
        return ""

    def stored_answers(self, prompts: Sequence[Instruction]) -> Path | None:
        """The file of answers from the evaluation of its run, where `prompts` are all that the run held out."""
        return None

    def other_iterates(self) -> list[str]:
        """The other policies of its run that are on disk, oldest first."""
        return []


class AnswerFile(Player):
    """A file of answers, one per instruction."""

    def __init__(self, spec: str) -> None:
        super().__init__(spec)
        self.path = Path(spec).expanduser()
        if not self.path.is_file():
            raise ValueError(f"answers: {spec!r} is not a file.")

    @cached_property
    def answers(self) -> Answers:
        """All that the file holds."""
        return read_answers(self.path)

    @property
    def identity(self) -> str:
        """Hash of the file."""
        return hash_file(self.path)

    def prompts(self, answered: bool = False) -> list[Instruction]:
        """The file's instructions, or only those that it answers."""
        texts = self.answers.texts if answered else (*self.answers.texts, *self.answers.unanswered)
        return [Instruction(text, self.answers.messages[text]) for text in texts]

    def answers_to(self, prompts: Sequence[Instruction]) -> dict[str, str]:
        """The file's answers to `prompts`, by text, in the file's order.

        Raises:
            ValueError: there are none.
        """
        asked = {prompt.text for prompt in prompts}
        texts = {text: answer for text, answer in self.answers.texts.items() if text in asked}
        if not texts:
            why = no_join(self.answers.texts, [prompt.text for prompt in prompts])
            raise ValueError(
                f"answers: {str(self.path)!r} answers none of the {len(prompts)} prompts (joined by text). {why}"
            )
        return texts


class PolicyPlayer(Player):
    """A model, the policy of a run after one of its rounds, or the average of a run's policies, which can be asked."""

    def __init__(self, spec: str, out: Path) -> None:
        """`out` is the folder for a model's logs; nothing is written into the model's own folder.

        Raises:
            ValueError: it is neither a model nor a policy of a run that is on disk.
        """
        super().__init__(spec)
        folder, round_ = _folder_and_round(spec)
        self.run = folder if is_run(folder) else None
        refuse_folder_of_runs(folder)
        if self.run is None and round_:
            raise ValueError(f"{spec!r}: {str(folder)!r} is not a run (no recipe.yaml). Write RUN:ROUND or a model.")
        if self.run is None:
            self.rounds, self.sampling = 0, SamplingConfig()
            self.policies = Policies(Store(out), ModelConfig(path=spec))
        else:
            recipe = read_run_recipe(self.run)
            self.rounds, self.sampling = recipe.rounds, recipe.sampling
            self.policies = Policies(Store(self.run), recipe.model, recipe.fit.precision)
            self.oracle, self.samples = recipe.oracle, recipe.evaluation.samples
        self.start_model = str(self.policies.base)
        average = range(1, self.rounds + 1)
        rounds = average if round_ == AVERAGE else [int(round_ or self.rounds)]
        self.refs: tuple[PolicyRef, ...] = tuple(PolicyRef(number) for number in rounds)
        """whose answers they are: one policy, or each with the same probability"""
        if self.refs[-1].round > self.rounds:
            raise ValueError(f"{spec!r}: the run has rounds 1 to {self.rounds}, and 0 for its start.")
        if self.refs[-1].round:
            self.policies.folder(self.refs[-1])
        if missing := [ref.title for ref in self.refs if not self.policies.exists(ref)]:
            raise ValueError(
                f"{spec!r}: {', '.join(missing)} not on disk, and the average is of the policies after every round. "
                "Train with keep_iterates: all, or name one that is there (RUN:ROUND)."
            )
        if self.run is not None:
            for ref in self.refs:
                check_policy(self.policies, ref)

    @property
    def ref(self) -> PolicyRef:
        """Its one policy. Raises ValueError for an average, which has several."""
        *others, last = self.refs
        if others:
            raise ValueError(
                f"{self.spec}: an average draws each answer from one of {len(self.refs)} policies and is no one model. "
                f"Name one of them: {self.run}:{last.round}."
            )
        return last

    def _of_all(self, hash_of: Callable[[PolicyRef], str]) -> str:
        """A policy's hash, or one over those of the average's policies."""
        hashes = [hash_of(ref) for ref in self.refs]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("+".join(hashes).encode()).hexdigest()

    @property
    def identity(self) -> str:
        """Hash of the weights, of the model's configuration, and of how prompts are rendered."""
        weights, base = self._of_all(self.policies.hash), self.policies.base
        parts = weights, hash_file(base / "config.json"), self.policies.chat.identity
        return hashlib.sha256("+".join(parts).encode()).hexdigest()

    @property
    def files(self) -> dict[str, str]:
        """The hash of all files beside the weights: the identity, older than they, has a few of them."""
        return {"files": self._of_all(self.policies.files_hash)}

    def prompts(self, answered: bool = False) -> list[Instruction] | None:
        """The held-out prompts of its run; None for a model."""
        if self.run is None:
            return None
        return [Instruction(row["prompt"], row["messages"]) for row in read_table(self.run / HELD_OUT)]

    def settings(self, overrides: Mapping[str, Any]) -> SamplingConfig:
        """The sampling settings of its run, or the defaults, with `overrides` of single fields."""
        return SamplingConfig.model_validate({**self.sampling.model_dump(), **overrides})

    def how_sampled(self, overrides: Mapping[str, Any]) -> str:
        """These settings as JSON, without those of vLLM, on which answers do not depend."""
        return self.settings(overrides).model_dump_json(exclude={"vllm"})

    def stored_answers(self, prompts: Sequence[Instruction]) -> Path | None:
        """The stored answers of its run, where they exist and are to these prompts; an average has none."""
        if self.run is None or len(self.refs) > 1:
            return None
        name, key = held_out_samples(self.ref.round), evaluation_stage("sample", self.ref.round)
        path = self.run / name
        if not path.exists() or self.prompts() != list(prompts):
            return None
        if key in self.policies.store.manifest:
            self.policies.store.check_output(key, name)
        return path

    def other_iterates(self) -> list[str]:
        """RUN:ROUND of each other policy on disk, oldest first; for an average, of every one."""
        refs = [PolicyRef(t) for t in range(self.rounds + 1) if (PolicyRef(t),) != self.refs]
        return [f"{self.run}:{ref.round}" for ref in refs if self.policies.exists(ref)]

    def sampled_from(self) -> dict[str, str]:
        """Hashes of its weights (an export has those of its source) and of the form of its prompts."""
        weights, card = self._of_all(self.policies.hash), self.policies.base / "export.json"
        exported = read_json(card) if self.refs == (REFERENCE,) and card.is_file() else {}
        if exported.get("weights") == weights:
            weights = exported["source_weights"]
        chat = self.policies.chat
        return {"weights": weights, "chat": f"{chat.identity} {chat.day}" if chat.writes_day else chat.identity}


def find_player(spec: str, out: Path) -> AnswerFile | PolicyPlayer:
    """The answer file (by its ending), model, RUN (its last policy), RUN:ROUND or RUN:average that `spec` names.

    Raises:
        ValueError: it is not there.
    """
    return AnswerFile(spec) if is_answer_file(spec) else PolicyPlayer(spec, out)


def _folder_and_round(spec: str) -> tuple[Path, str]:
    """RUN and ROUND of `RUN:ROUND`; without a number or "average" at its end, all of it and ""."""
    folder, _, number = spec.rpartition(":")
    if folder and (number.isdigit() or number == AVERAGE):
        return Path(folder).expanduser(), number
    if folder and not Path(spec).exists() and is_run(run := Path(folder).expanduser()):
        raise ValueError(
            f"{spec!r}: {run} is a run, and {number!r} none of its rounds. Write {run}:ROUND or {run}:{AVERAGE}."
        )
    return Path(spec).expanduser(), ""


def policy_folder(spec: str, out: Path) -> Path:
    """The weights of a model or of a run's policy.

    Raises:
        ValueError: it is an answer file, an adapter, or not there.
    """
    player = find_player(spec, out)
    if isinstance(player, AnswerFile):
        raise ValueError(f"{spec}: leaderboard tasks need a policy's probabilities; an answer file has none.")
    return player.policies.whole_weights(player.ref.round)


def prompts_between(one: Player, other: Player) -> list[Instruction] | None:
    """The prompts for two players: all of two files, those that one file answers, or a run's held-out ones.

    `one` comes first. Where only one of two files has an instruction's turns, they are taken.
    """
    files = [player for player in (one, other) if isinstance(player, AnswerFile)]
    if len(files) < 2:
        offers = (player.prompts(answered=True) for player in files or (one, other))
        return next((prompts for prompts in offers if prompts is not None), None)
    prompts: dict[str, Instruction] = {}
    for prompt in (prompt for file in files for prompt in file.prompts()):
        before = prompts.setdefault(prompt.text, prompt)
        prompts[prompt.text] = max(before, prompt, key=lambda each: len(each.messages))
    return list(prompts.values())


def sampled_otherwise(a: str, b: str, a_settings: str, b_settings: str) -> list[str]:
    """A caution where policies `a` and `b` were sampled with other settings (as JSON; "": not known)."""
    fields = "; ".join(f"{field} {x} and {y}" for field, (x, y) in _other_settings(a_settings, b_settings).items())
    caution = f"{a} and {b} were sampled with other settings ({fields}): part of the difference is theirs."
    return [caution] if fields else []


def same_policy(a: Mapping[str, Any], b: Mapping[str, Any], settings: tuple[str, str]) -> str | None:
    """A caution where A and B (entries stored beside their answers) are the same weights, sampled with `settings`."""
    if a.get("weights") is None or a["weights"] != b.get("weights"):
        return None
    same = "A and B are the same weights"
    if a["chat"] != b["chat"]:
        same += ", asked in other forms (template or system message)"
    other = _other_settings(*settings)
    if not other:
        return f"{same}, sampled alike: what else differs is chance."
    fields = "; ".join(f"{field} {x} and {y}" for field, (x, y) in other.items())
    remedy = " ".join(f"--sampling {field}={json.dumps(y)}" for field, (_, y) in other.items())
    return f"{same}: only sampling differs ({fields}). To sample both alike, give {remedy} and another --out."


def _other_settings(a: str, b: str) -> dict[str, tuple[Any, Any]]:
    """Both values of the sampling fields that differ; none where the settings of one are not known."""
    if not (a and b):
        return {}
    one, two = json.loads(a), json.loads(b)
    return {field: (one.get(field), two.get(field)) for field in {**one, **two} if one.get(field) != two.get(field)}
