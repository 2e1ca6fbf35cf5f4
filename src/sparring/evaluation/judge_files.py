"""Have a language model judge files of Arena-Hard or MT-Bench answers, and store its judgments as one file.

Replies are kept beside the judgments, so that a stopped call goes on and pays for nothing twice. Judgments of other
models, or by another judge, are not overwritten. Leaves out: wordings and verdicts (`judge_benchmarks.py`), and the
scores (`arena_hard.py`, `mt_bench.py`).

    settings = JudgeSettings(EndpointConfig(model="gpt-4.1"), max_tokens=4096)
    judge_arena_hard(answers, baseline_answers, questions, instruction, settings, Path("judged.jsonl"), Progress())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.data.rows import read_file
from sparring.endpoints.endpoint import Endpoint
from sparring.endpoints.replies import Asker, Reply, Request
from sparring.evaluation.arena_hard import read_answers
from sparring.evaluation.judge_benchmarks import (
    NOT_ASKED,
    Judge,
    arena_hard_rows,
    pair_rows,
    read_prompts,
    read_questions,
    read_turns,
    single_rows,
    unserved,
    wording_of,
)
from sparring.oracles.guard import MAX_FAILED_SHARE
from sparring.recipe.sections import EndpointConfig
from sparring.runtime.errors import OracleError
from sparring.runtime.files import write_json_lines
from sparring.runtime.progress import Progress


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Which model judges, where it runs, and how long a reply may be."""

    endpoint: EndpointConfig
    max_tokens: int
    local: bool = False
    """run `endpoint.model` in this process; of the endpoint only `concurrency` counts too"""
    reasoning: bool = False
    """it takes max_completion_tokens, and no temperature"""


def judge_arena_hard(
    answers: Path,
    baseline_answers: Path,
    questions: Path,
    instruction: Path,
    settings: JudgeSettings,
    out: Path,
    progress: Progress,
) -> None:
    """Judge a model's answers against the baseline's in both orders, with five-level verdicts.

    Raises:
        ValueError: a file or the judge cannot be used, or `out` holds other judgments.
        OracleError: the judge cannot be asked, or too many replies gave no verdict; what there is was stored.
    """
    (name, own), (baseline, others) = (_one_model(read_answers([path]), path) for path in (answers, baseline_answers))
    asked, text = read_questions(questions), _read_instruction(instruction)
    _refuse_itself(name, baseline, "--baseline-answers")
    judge, asker = _open_judge(settings, out, progress)
    _refuse_other_judgments(out, {"model": name, "baseline": baseline, "judge": judge.identity(text, [])})
    rows = arena_hard_rows(asked, own, others, (name, baseline), text, judge)
    verdicts = [(game["judgment"], game["score"] is not None) for row in rows for game in row["games"]]
    _store(rows, _asked_for(verdicts, progress), asker, out, progress)


def judge_mt_bench(
    answers: Path,
    questions: Path,
    references: Path,
    judge_prompts: Path,
    against: Path | None,
    settings: JudgeSettings,
    out: Path,
    progress: Progress,
) -> None:
    """Rate a model's two turns, or compare it with the model of `against` in both orders.

    Raises:
        ValueError: a file or the judge cannot be used, or `out` holds other judgments.
        OracleError: the judge cannot be asked, or too many replies gave no verdict; what there is was stored.
    """
    name, own = _one_model(read_turns(read_file(answers)), answers)
    _, known = _one_model(read_turns(read_file(references)), references)
    asked, prompts = read_questions(questions, ("category", "turns")), read_prompts(judge_prompts)
    if against is None:
        judge, asker = _open_judge(settings, out, progress)
        _refuse_other_judgments(out, {"model": name, "judge": judge.identity(wording_of(prompts), [])})
        if empty := sum(not turn.strip() for turns in own.values() for turn in turns):
            progress.say(f"{name}: {empty} turns are empty; the judge rates them like any other")
        rows = single_rows(asked, own, known, name, prompts, judge)
        _store(rows, [row["score"] >= 0 for row in rows], asker, out, progress)
        return
    other, others = _one_model(read_turns(read_file(against)), against)
    _refuse_itself(name, other, "--against")
    judge, asker = _open_judge(settings, out, progress)
    names = {"model_1": name, "model_2": other}
    _refuse_other_judgments(out, {**names, "judge": judge.identity(wording_of(prompts), [])})
    rows = pair_rows(asked, (own, others), known, (name, other), prompts, judge)
    verdicts = [(row[f"g{game}_judgment"], row[f"g{game}_winner"] != "error") for row in rows for game in (1, 2)]
    _store(rows, _asked_for(verdicts, progress), asker, out, progress)


# ---------------------------------------------------------------- what is read


def _one_model(by_model: Mapping[str, Any], path: Path) -> tuple[str, Any]:
    """The only model of a file of answers, and its answers by question."""
    if not by_model:
        raise ValueError(f"{path} holds no answers.")
    if len(by_model) > 1:
        names = ", ".join(by_model)
        raise ValueError(f"{path} holds answers of {len(by_model)} models ({names}); give one model's file.")
    return next(iter(by_model.items()))


def _refuse_itself(name: str, other: str, option: str) -> None:
    if name == other:
        raise ValueError(f"--answers and {option} are both of {name!r}. Give another model's answers on one side.")


def _read_instruction(path: Path) -> str:
    """The judge's system prompt."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"--instruction {path} is not UTF-8 text.") from error
    if not text:
        raise ValueError(f"--instruction {path} is empty. Give the judge's system prompt.")
    return text


def _refuse_other_judgments(out: Path, here: Mapping[str, str]) -> None:
    """Raise ValueError where `out` holds judgments of other models or by another judge than those of `here`.

    A repeated call rewrites judgments of the same models by the same judge.
    """
    for row in read_file(out) if out.exists() else ():
        judge = row.get("judge")
        name = judge[0] if isinstance(judge, list) and judge else judge
        there = {**{key: row.get(key) for key in here}, "judge": unserved(str(name))}
        if others := [f"{key}: {there[key]} there, {here[key]} here" for key in here if there[key] != here[key]]:
            raise ValueError(f"--out: {out} holds other judgments ({'; '.join(others)}). Give another --out.")


# ---------------------------------------------------------------- asking and storing


def _open_judge(settings: JudgeSettings, out: Path, progress: Progress) -> tuple[Judge, Asker]:
    """The judge, and who carries its questions; ValueError for a model or an endpoint that cannot be asked."""
    endpoint, replies = settings.endpoint, out.with_name(f"{out.name}.replies.jsonl")
    if not settings.local:
        asker: Asker = Endpoint(endpoint, "judge", replies)
    else:
        from sparring.endpoints.local import LocalChat  # here, since it loads transformers

        asker = LocalChat(endpoint.model, str(replies), endpoint.concurrency)
    if asker.file.damage:
        progress.say(asker.file.damage)

    def ask(requests: Sequence[Request]) -> list[Reply | None]:
        """Say what it will take at most, then ask in waves, which show how far it is."""
        progress.say(f"judge {endpoint.model} at {asker.where}: {asker.estimate(requests)}")
        received: list[Reply | None] = []
        with progress.task("judge", len(requests)) as advance:
            for begin in range(0, len(requests), asker.wave):
                received += asker.ask(requests[begin : begin + asker.wave])
                advance(len(received) - begin)
        if cut := sum(reply is not None and reply.cut for reply in received):
            progress.say(f"{cut} of {len(received)} replies were cut off at --max-tokens: they give no verdict")
        return received

    return Judge(endpoint.model, ask, settings.max_tokens, settings.reasoning), asker


def _asked_for(verdicts: Sequence[tuple[str, bool]], progress: Progress) -> list[bool]:
    """Whether each of the judge's replies was readable, from (judgment, readable) of all games, a rule's too."""
    asked = [readable for judgment, readable in verdicts if not judgment.startswith(NOT_ASKED)]
    if ruled := len(verdicts) - len(asked):
        progress.say(f"{ruled} games have an empty answer, which loses (two tie); the judge was not asked")
    return asked


def _store(
    rows: Sequence[Mapping[str, Any]], readable: Sequence[bool], asker: Asker, out: Path, progress: Progress
) -> None:
    """Write the judgments; `readable` has one entry per reply that was asked for.

    Raises:
        OracleError: too many replies gave no verdict.
    """
    write_json_lines(out, rows)
    progress.say(f"{len(rows)} judgments in {out}")
    if asker.paid is not None:
        progress.say(f"all kept replies cost {asker.paid:.4f}")
    failed = Counter(readable)[False]
    unanswered = min(asker.counts["failed requests"], failed)
    lost = f"{failed} of {len(readable)} replies gave no verdict ({unanswered} unanswered, the rest unreadable)"
    if failed > MAX_FAILED_SHARE * max(len(readable), 20):
        raise OracleError(
            f"{lost}, more than {MAX_FAILED_SHARE:.0%}: a score of what is left would depend on which failed. The "
            f"judgments are stored in {out} all the same. The same command asks the unanswered again"
            f"{f' (last: {asker.last_error})' if asker.last_error else ''}; unreadable replies are kept and "
            "stay so: read some, then give --max-tokens, another judge or another wording, and another --out."
        )
    if failed:
        progress.say(f"{lost}; the scores count and leave them out")
