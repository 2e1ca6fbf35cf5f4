"""One side of a contest: an answer file, a model, or a run's policy.

Leaves out: sampling from it (`contest.py`).

    Side("runs/mine:2", root).identity
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import PolicyRef
from sparring.data.rows import ENDINGS
from sparring.evaluation.answers import Instruction, read_answers
from sparring.recipe.reading import load_recipe
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import DataConfig, DatasetConfig, ModelConfig, SamplingConfig
from sparring.rounds.policies import Policies
from sparring.rounds.store import Store
from sparring.runtime.files import hash_file, read_json, read_table
from sparring.runtime.layout import HELD_OUT, RECIPE, is_run, refuse_folder_of_runs


class Side:
    """One player: an answer file, or a policy that can be asked."""

    def __init__(self, spec: str, root: Path) -> None:
        self.spec = spec
        path = Path(spec).expanduser()
        self.file = answer_file(spec)
        if self.file is not None:
            if not path.is_file():
                raise ValueError(f"answers: {spec!r} is not a file.")
            return
        before, colon, after = spec.rpartition(":")
        numbered = bool(colon) and after.isdigit()
        folder = Path(before).expanduser() if numbered else path
        run = is_run(folder)
        refuse_folder_of_runs(folder)
        if numbered and not run:
            raise ValueError(
                f"{spec!r}: {str(folder)!r} is not a run folder (no recipe.yaml). Write RUN:ROUND or a model."
            )
        recipe = load_recipe(folder / RECIPE) if run else _no_training(spec)
        if numbered and int(after) > recipe.rounds:
            raise ValueError(f"{spec!r}: the run has rounds 1 to {recipe.rounds}, and 0 for its start.")
        # A model's own folder is not ours to write in: logs go to `root`.
        self.policies = Policies(Store(folder if run else root), recipe)
        self.ref = PolicyRef((int(after) if numbered else recipe.rounds) if run else 0)
        self.run = folder if run else None
        if self.ref.round:
            self.policies.folder(self.ref)

    def held_out(self) -> list[Instruction] | None:
        """The prompts that its run held out; None where there is no run."""
        if self.file is not None or self.run is None:
            return None
        rows = read_table(self.run / HELD_OUT)
        return [Instruction(row["prompt"], row["messages"]) for row in rows]

    @property
    def identity(self) -> str:
        """Hash of the answers' file; or of the weights, the configuration, and how prompts are rendered."""
        if self.file:
            return hash_file(self.file)
        parts = self.policies.hash(self.ref), hash_file(self.policies.base / "config.json"), self.policies.chat.identity
        return hashlib.sha256("+".join(parts).encode()).hexdigest()

    def sampled_from(self) -> dict[str, str]:
        """Hashes of a policy's weights (an export's: of those that it was made from) and of its prompts' form."""
        own, card = self.policies.hash(self.ref), self.policies.base / "export.json"
        made = read_json(card) if self.ref.round == 0 and card.is_file() else {}
        weights = made["source_weights"] if made.get("weights") == own else own
        return {"weights": weights, "chat": self.policies.chat.identity}

    def settings(self, overrides: Mapping[str, Any]) -> SamplingConfig | None:
        """How it is sampled: as its run does, or by default, and `overrides`; None for a file."""
        if self.file is not None:
            return None
        return SamplingConfig.model_validate({**self.policies.recipe.sampling.model_dump(), **overrides})


def answer_file(spec: str) -> Path | None:
    """The file that a side's name stands for; None where it stands for a policy."""
    path = Path(spec).expanduser()
    return path if path.suffix in (*ENDINGS, ".gz") else None


def policy_folder(spec: str, out: Path) -> Path:
    """The weights of a model or of a run's policy.

    Raises:
        ValueError: it is an answer file, an adapter, or not there.
    """
    side = Side(spec, out)
    if side.file is not None:
        raise ValueError(f"{spec}: leaderboard tasks need a policy's probabilities; an answer file has none.")
    folder, adapter = side.policies.stored(side.ref)
    if adapter is not None:
        raise ValueError(
            f"{spec} is an adapter over its start model. Merge it first: sparring export {side.run} --round "
            f"{side.ref.round} --out FOLDER --dtype float32, and give that folder."
        )
    return folder


def sampled_otherwise(a: str, b: str, ours: str, theirs: str) -> list[str]:
    """A caution where policies `a` and `b` were sampled with other settings (as JSON; "": not known)."""
    other = [f"{field} {x} and {y}" for field, (x, y) in _other_settings(ours, theirs).items()]
    told = f"{a} and {b} were sampled with other settings ({'; '.join(other)}): part of the difference is theirs."
    return [told] if other else []


def same_policy(ours: Mapping[str, Any], theirs: Mapping[str, Any], sampling: tuple[str, str]) -> str | None:
    """A caution where the sides (facts of their answers), sampled as `sampling` says, are one policy's weights."""
    if ours.get("weights") is None or ours["weights"] != theirs.get("weights"):
        return None
    told = "A and B are the same weights"
    if ours["chat"] != theirs["chat"]:
        told += ", asked in other forms (template or system message)"
    other = _other_settings(*sampling)
    if not other:
        return f"{told}, sampled alike: what else differs is chance."
    fields = "; ".join(f"{field} {x} and {y}" for field, (x, y) in other.items())
    remedy = " ".join(f"--sampling {field}={json.dumps(y)}" for field, (_, y) in other.items())
    return f"{told}: only sampling differs ({fields}). To sample both alike, give {remedy} and another --out."


def _other_settings(ours: str, theirs: str) -> dict[str, tuple[Any, Any]]:
    """Both values of the sampling fields that differ; none where one side's are not known."""
    if not (ours and theirs):
        return {}
    one, two = json.loads(ours), json.loads(theirs)
    return {f: (one.get(f), two.get(f)) for f in {**one, **two} if one.get(f) != two.get(f)}


def _no_training(model: str) -> Recipe:
    """A recipe for a model that is only sampled: what it says of data and algorithm is never used."""
    unused = DatasetConfig(path="sparring:prompts")
    return Recipe(
        model=ModelConfig(path=model), data=DataConfig(train=unused, held_out=unused), algorithm={"name": "dpo"}
    )


def prompts_of(side: Side, answered: bool = False) -> list[Instruction] | None:
    """What a side brings along: a file's instructions (or only those it has an answer to), a run's held-out prompts."""
    if side.file is None:
        return side.held_out()
    given = read_answers(side.file)
    texts = given.texts if answered else (*given.texts, *given.unanswered)
    return [Instruction(text, given.messages[text]) for text in texts]


def prompts_between(one: Side, other: Side) -> list[Instruction] | None:
    """What two sides are asked: all instructions of two files; what a file answers; what a run held out.

    `one` comes first. Where only one of two files has an instruction's turns, they are taken.
    """
    files = [side for side in (one, other) if side.file is not None]
    if len(files) < 2:
        given = (prompts_of(side, answered=True) for side in files or (one, other))
        return next((prompts for prompts in given if prompts is not None), None)
    found: dict[str, Instruction] = {}
    for side in files:
        for prompt in prompts_of(side) or []:
            before = found.setdefault(prompt.text, prompt)
            found[prompt.text] = max(before, prompt, key=lambda each: len(each.messages))
    return list(found.values())
