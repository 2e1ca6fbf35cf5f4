"""Asking a judge the questions of Arena-Hard and MT-Bench, and writing its verdicts in the benchmarks' own rows.

Both orders are always asked. A verdict is the last mark in the reply, its thoughts aside; a missing, cut or markless
reply gives no verdict, which the scores count and leave out. In a comparison an empty answer loses without the judge,
and two empty ones tie; ratings are always asked for. MT-Bench's wording comes from the benchmark's own
judge_prompts.jsonl, Arena-Hard's from the user. Scores compare only under the same judge, wording and room for reasons,
so all three stand in the judge's name. Leaves out: how a judge is reached, retried and paid (`endpoints/endpoint.py`),
and the scores.

    rows = arena_hard_rows(questions, answers, baselines, names, instruction, Judge("gpt-4.1", endpoint.ask, 4096))
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.data.rows import read_file
from sparring.endpoints.replies import Reply, Request
from sparring.evaluation.arena_hard import MIRRORED, question_id
from sparring.evaluation.mt_bench import NO_RATING, REFERENCE_CATEGORIES, TURNS
from sparring.oracles.judge_prompts import without_thoughts

Row = dict[str, Any]
LEVEL = r"A(?:>>?|=|<<?)B|B(?:>>?|=|<<?)A"
FIVE_LEVELS = re.compile(rf"\[\[({LEVEL})\]\]")
LONE_LEVEL = re.compile(rf"\[({LEVEL})\]")
"""what Arena-Hard v2.0 falls back on"""
CHOICE = re.compile(r"\[\[([ABC])\]\]")
RATING = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]")
LONE_RATING = re.compile(r"\[(\d+(?:\.\d+)?)\]")
"""what FastChat falls back on; a footnote looks alike, so double brackets go first"""
FIELD = re.compile(r"\{(\w+)\}")
ARENA_HARD_USER = (
    "<|User Prompt|>\n{question}\n\n<|The Start of Assistant A's Answer|>\n{a}\n<|The End of Assistant A's Answer|>\n\n"
    "<|The Start of Assistant B's Answer|>\n{b}\n<|The End of Assistant B's Answer|>"
)
"""Arena-Hard's user turn: part of its file format"""
NOT_ASKED = "Not asked: "
"""beginning of a judgment that a rule gave"""
LEVELS, CHOICES = ("[[A>>B]]", "[[B>>A]]", "[[A=B]]"), ("[[A]]", "[[B]]", "[[C]]")
"""marks where A wins, B wins, neither"""
SERVED = re.compile(r"served as .*?, (?=prompt [0-9a-f]{8})")
MAX_TOKENS = {"arena-hard": 4096, "mt-bench": 2048}
"""as the benchmarks ask for"""


Ask = Callable[[Sequence[Request]], Sequence[Reply | None]]
"""one reply per request; None where the judge failed"""


@dataclass(frozen=True, slots=True)
class Judge:
    """A judging model, how it is asked, and how long a reply may be, in tokens."""

    model: str
    ask: Ask
    max_tokens: int
    reasoning: bool = False
    """whether it takes max_completion_tokens, and no temperature"""

    def request(self, system: str, user: str) -> Row:
        """A question to the judge, at temperature 0 as the benchmarks want, where it takes one."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        if self.reasoning:
            return {"messages": messages, "max_completion_tokens": self.max_tokens}
        return {"messages": messages, "max_tokens": self.max_tokens, "temperature": 0.0}

    def identity(self, wording: str, replies: Sequence[Reply | None]) -> str:
        """The judge's name in the rows, which holds the version that answered, the wording and the room for reasons."""
        served = sorted({reply.model for reply in replies if reply is not None} - {"", self.model})
        digest = hashlib.sha256(wording.encode()).hexdigest()[:8]
        details = [*(f"served as {name}" for name in served), f"prompt {digest}", f"at most {self.max_tokens} tokens"]
        if self.reasoning:
            details.append("as a reasoning model")
        return f"{self.model} ({', '.join(details)})"


def _ask(
    judge: Judge, requests: Sequence[Row], answers: Sequence[tuple[str, str]], marks: tuple[str, str, str]
) -> list[Reply | None]:
    """Replies to comparisons of `answers`, A's and B's; the judge is asked only where neither is empty."""
    ruled = [_rule(a, b, marks) for a, b in answers]
    left = [request for request, reply in zip(requests, ruled, strict=True) if reply is None]
    asked = iter(judge.ask(left) if left else [])
    return [next(asked) if reply is None else reply for reply in ruled]


def _rule(a: str, b: str, marks: tuple[str, str, str]) -> Reply | None:
    """A reply in the judge's place where an answer is empty; the benchmarks' judges are asked about equal answers."""
    if a.strip() and b.strip():
        return None
    reasons = (("answer B is empty", marks[0]), ("answer A is empty", marks[1]), ("both answers are empty", marks[2]))
    reason, mark = reasons[2 if a.strip() == b.strip() else 0 if a.strip() else 1]
    return Reply(f"{NOT_ASKED}{reason}. {mark}", cut=False)


def unserved(identity: str) -> str:
    """A judge's name without the version that answered, which is not known before it is asked."""
    return SERVED.sub("", identity)


def last_mark(mark: re.Pattern[str], reply: Reply | None) -> str | None:
    """The last verdict in a whole reply; earlier marks belong to its reasoning."""
    if reply is None or reply.cut:
        return None
    marks = mark.findall(without_thoughts(reply.text))
    return marks[-1] if marks else None


def read_level(reply: Reply | None) -> str | None:
    """One of Arena-Hard's five verdicts, also where it was written from B's side; None where there is none."""
    level = last_mark(FIVE_LEVELS, reply) or last_mark(LONE_LEVEL, reply)
    return level and MIRRORED.get(level, level)


def read_rating(reply: Reply | None) -> float | None:
    """A rating from 0 to 10; None where there is none, or another number."""
    rating = last_mark(RATING, reply) or last_mark(LONE_RATING, reply)
    return float(rating) if rating is not None and float(rating) <= 10 else None


def _fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its {fields} filled in; braces in an answer mean nothing."""
    if unknown := [field for field in FIELD.findall(template) if field not in values]:
        raise ValueError(f"the judge's prompt has a field {{{unknown[0]}}}; known here are {', '.join(values)}.")
    return FIELD.sub(lambda field: values[field[1]], template)


def _text(reply: Reply | None) -> str:
    return "" if reply is None else reply.text


def _user(request: Request) -> str:
    return request["messages"][1]["content"]


def read_questions(path: Path, needed: Sequence[str] = ()) -> list[Row]:
    """A benchmark's questions.

    Raises:
        ValueError: a question lacks its identity, its text or a field of `needed`, or is there twice.
    """
    seen: set[str] = set()
    rows = read_file(path)
    for line, row in enumerate(rows, start=1):
        where = f"{path}, question {line}"
        uid = question_id(row, where)
        if missing := [name for name in needed if name not in row]:
            raise ValueError(f"{where}: it has no {missing[0]}.")
        if "prompt" not in row and not row.get("turns"):
            raise ValueError(f"{where}: it has neither prompt nor turns.")
        if uid in seen:
            raise ValueError(f"{where}: question {uid} is there twice. Remove one row.")
        seen.add(uid)
    if not rows:
        raise ValueError(f"{path} holds no question.")
    return rows


# ---------------------------------------------------------------- Arena-Hard


def arena_hard_rows(
    questions: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Mapping[str, Any]],
    baseline: Mapping[str, Mapping[str, Any]],
    names: tuple[str, str],
    instruction: str,
    judge: Judge,
) -> list[Row]:
    """Judgments of a model against the baseline (`names`), rows as v2.0 has them.

    Raises:
        ValueError: an answer is missing.
    """
    asked: list[tuple[str, str]] = []
    requests: list[Row] = []
    shown: list[tuple[str, str]] = []
    for line, question in enumerate(questions, start=1):
        uid = question_id(question, f"question {line}")
        own, other = _answer(answers, uid, names[0]), _answer(baseline, uid, names[1])
        asked.append((uid, question.get("category", "arena-hard-v0.1")))
        for a, b in ((other, own), (own, other)):  # the model is B first, then A
            values = {"question": question_text(question), "a": a, "b": b}
            requests.append(judge.request(instruction, _fill(ARENA_HARD_USER, values)))
            shown.append((a, b))
    replies = _ask(judge, requests, shown, LEVELS)
    identity = judge.identity(instruction, replies)
    games = [
        {"user_prompt": _user(request), "judgment": _text(reply), "score": read_level(reply)}
        for request, reply in zip(requests, replies, strict=True)
    ]
    rows = []
    for index, (uid, category) in enumerate(asked):
        row = {"uid": uid, "category": category, "judge": identity, "model": names[0], "baseline": names[1]}
        rows.append({**row, "games": games[2 * index : 2 * index + 2]})
    return rows


def question_text(question: Mapping[str, Any]) -> str:
    """An Arena-Hard question's prompt in either version."""
    if "prompt" in question:
        return str(question["prompt"])
    turn = question["turns"][0]
    return str(turn["content"] if isinstance(turn, Mapping) else turn)


def _answer(answers: Mapping[str, Mapping[str, Any]], question: str, name: str) -> str:
    if question not in answers:
        raise ValueError(f"{name} has no answer to question {question}. Give an answer to every question.")
    return answers[question]["text"]


# ---------------------------------------------------------------- MT-Bench


def read_turns(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """FastChat's answers: by model and question, the texts of its turns.

    Raises:
        ValueError: a row is not FastChat's, or answers a question twice.
    """
    by_model: dict[str, dict[str, list[str]]] = {}
    for line, row in enumerate(rows, start=1):
        model, question = row.get("model_id") or row.get("model"), row.get("question_id")
        turns = row["choices"][0]["turns"] if row.get("choices") else row.get("turns")
        if model is None or question is None or not isinstance(turns, list) or len(turns) < len(TURNS):
            raise ValueError(f"answer {line}: it needs question_id, model_id and two turns, as FastChat writes them.")
        answers = by_model.setdefault(str(model), {})
        if str(question) in answers:
            raise ValueError(f"answer {line}: {model} answers question {question} twice. Remove one row.")
        answers[str(question)] = [str(turn) for turn in turns]
    return by_model


def single_rows(
    questions: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[str]],
    references: Mapping[str, Sequence[str]],
    model: str,
    prompts: Mapping[str, Mapping[str, str]],
    judge: Judge,
) -> list[Row]:
    """Ratings of one model's two turns; `prompts` are the rows of judge_prompts.jsonl by name."""
    asked = [(q, turn, _prompt_name(q, turn, "single-math-v1", "single-v1")) for q in questions for turn in TURNS]
    requests = [
        _from_prompt(prompts, name, _values(question, {"answer": (model, answers)}, references, turn), judge)
        for question, turn, name in asked
    ]
    replies = judge.ask(requests)
    identity = judge.identity(wording_of(prompts), replies)
    rows = []
    for (question, turn, name), request, reply in zip(asked, requests, replies, strict=True):
        rating = read_rating(reply)
        score = NO_RATING if rating is None else rating
        row = {"question_id": question["question_id"], "model": model, "judge": [identity, name], "turn": turn}
        rows.append({**row, "user_prompt": _user(request), "judgment": _text(reply), "score": score})
    return rows


def pair_rows(
    questions: Sequence[Mapping[str, Any]],
    answers: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]],
    references: Mapping[str, Sequence[str]],
    names: tuple[str, str],
    prompts: Mapping[str, Mapping[str, str]],
    judge: Judge,
) -> list[Row]:
    """Both orders of two models' answers, turn by turn, with the winners in FastChat's words."""
    sides = list(zip(names, answers, strict=True))
    asked = [(q, turn, _prompt_name(q, turn, "pair-math-v1", "pair-v2")) for q in questions for turn in TURNS]
    requests, shown = [], []
    for question, turn, name in asked:
        for a, b in ((0, 1), (1, 0)):
            values = _values(question, {"answer_a": sides[a], "answer_b": sides[b]}, references, turn)
            requests.append(_from_prompt(prompts, name, values, judge))
            shown.append((values[f"answer_a_{turn}"], values[f"answer_b_{turn}"]))
    replies = _ask(judge, requests, shown, CHOICES)
    identity = judge.identity(wording_of(prompts), replies)
    rows = []
    for index, (question, turn, name) in enumerate(asked):
        row: Row = {"question_id": question["question_id"], "model_1": names[0], "model_2": names[1]}
        row |= {"judge": [identity, name], "turn": turn}
        for game, winners in ((1, ("model_1", "model_2")), (2, ("model_2", "model_1"))):
            i = 2 * index + game - 1
            words = {"A": winners[0], "B": winners[1], "C": "tie", None: "error"}
            row[f"g{game}_winner"] = words[last_mark(CHOICE, replies[i])]
            row[f"g{game}_user_prompt"], row[f"g{game}_judgment"] = _user(requests[i]), _text(replies[i])
        rows.append(row)
    return rows


def _guided(question: Mapping[str, Any]) -> bool:
    return question["category"] in REFERENCE_CATEGORIES


def _prompt_name(question: Mapping[str, Any], turn: int, guided: str, unguided: str) -> str:
    return (guided if _guided(question) else unguided) + ("" if turn == 1 else "-multi-turn")


def wording_of(prompts: Mapping[str, Mapping[str, str]]) -> str:
    """The wording of all judge prompts as one text, also of those that a few questions do not need."""
    return json.dumps({name: [row["system_prompt"], row["prompt_template"]] for name, row in sorted(prompts.items())})


def read_prompts(path: Path) -> dict[str, Mapping[str, str]]:
    """FastChat's judge_prompts.jsonl by name.

    Raises:
        ValueError: a row lacks a field.
    """
    rows = read_file(path)
    for line, row in enumerate(rows, start=1):
        if missing := [field for field in ("name", "system_prompt", "prompt_template") if field not in row]:
            raise ValueError(f"{path}, prompt {line}: it has no {missing[0]}. Give FastChat's judge_prompts.jsonl.")
    return {row["name"]: row for row in rows}


def _from_prompt(prompts: Mapping[str, Mapping[str, str]], name: str, values: Mapping[str, str], judge: Judge) -> Row:
    if name not in prompts:
        raise ValueError(f"the judge prompts have no {name!r}; they have {', '.join(prompts)}.")
    return judge.request(prompts[name]["system_prompt"], _fill(prompts[name]["prompt_template"], values))


def _values(
    question: Mapping[str, Any],
    sides: Mapping[str, tuple[str, Mapping[str, Sequence[str]]]],
    references: Mapping[str, Sequence[str]],
    turn: int,
) -> dict[str, str]:
    """The fields of a judge prompt: questions, answers and references of the turns so far."""
    key = str(question["question_id"])
    values = {"question": question["turns"][0]}
    values |= {f"question_{t}": question["turns"][t - 1] for t in TURNS[:turn]}
    for field, (model, answers) in sides.items():
        if key not in answers:
            raise ValueError(f"{model} has no answer to question {key}. Give an answer to every question.")
        values[field] = answers[key][0]
        values |= {f"{field}_{t}": answers[key][t - 1] for t in TURNS[:turn]}
    if _guided(question):
        if key not in references:
            raise ValueError(f"question {key} ({question['category']}) has no reference answer. Give --references.")
        values |= {f"ref_answer_{t}": references[key][t - 1] for t in TURNS[:turn]}
    return values
