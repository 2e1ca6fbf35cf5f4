"""SPELL (2509.23863): a questioner, a responder and a verifier on a document, one model in all three roles.

The questioner writes a question on the document with its answer, as JSON. The responder answers with the document
before it, and for comparison without. The verifier says of each answer whether it agrees with the questioner's. Rewards
as in the released code:

    responder   the larger of the rule (the answer's words are in the response) and the majority of the verifiers
    verifier    1 with its majority, 0 against it, -1 unreadable; trained only where the majority equals the rule and
                between 51 % and 99 % agree
    questioner  -1 unreadable, -1/2 answered without the document, 0 all or no responses right, else a gaussian around
                one half with a third of it as deviation

Ours: the prompts, and made documents (`documents: made`), a ledger of purchases drawn from the task's number. Leaves
out: several documents of which the questioner sees some, the deviation of advantages over the batch (the losses see
siblings only).

With `memory: 3` the questioner sees the last three questions on its document of which some responses were right and
some wrong (the paper's success in [.01, 1) where they are fewer than a hundred), and is to ask something harder. The
questions are kept round by round in notes.parquet; a policy is evaluated without them.

    DocumentQuestions(documents="made").play(Task("a", ""), seed=0)
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from sparring.environments.environment import Ask, Environment, Line, Outcome, Play, Reply, Task, after_examples

QUESTIONER, RESPONDER, VERIFIER = "questioner", "responder", "verifier"
UNREADABLE, KNOWN, OTHER = "unreadable", "answered without the document", "not trained on"
AGREEMENT = 0.51, 0.99
"""share of verifiers with the majority between which they are trained"""
WIDTH = 1 / 6
JSON_OBJECT = re.compile(r"\{[^{}]*\}")
VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")
GOODS = ("apples", "lamps", "stamps", "chairs", "candles", "ropes", "maps", "bells")
TOWNS = ("Arles", "Bern", "Cork", "Delft", "Evora", "Faro")


class Question(NamedTuple):
    """A question on a document, and the answer that its author gave."""

    text: str
    answer: str


class DocumentQuestions(Environment):
    """Fields of the game."""

    about = "a questioner asks about a document, a responder answers, a verifier compares the answers"
    roles = (QUESTIONER, RESPONDER, VERIFIER)

    documents: Literal["task", "made"] = "task"
    """task: the row's prompt is the document; made: a ledger is drawn"""
    lines: int = Field(default=6, ge=2, le=40)
    """of a made ledger"""
    verifiers: int = Field(default=3, ge=1)
    """replies of the verifier to each answer; odd, so that there is a majority"""
    memory: int = Field(default=0, ge=0)
    """how many of the last solved questions on the same document the questioner is shown (the paper's: 3); a made
    ledger is then the same in every round"""

    def play(self, task: Task, seed: int) -> Play:
        """K questions; K answers to each with the document and one without; verifiers for the former."""
        drawn = random.Random(task.name if self.memory else seed)
        document = task.prompt if self.documents == "task" else _ledger(drawn, self.lines)
        request = _request(document, task.notes)
        (written,) = yield [Ask(QUESTIONER, after_examples(request, (_request(SHOWN), SHOWN_QUESTION)))]
        questions = [read_question(reply.text) for reply in written]
        asked = [question for question in questions if question is not None]
        if not asked:
            return [[Outcome(-1.0, UNREADABLE) for _ in questions]]
        with_document = [Ask(RESPONDER, _user(f"{document}\n\n{one.text} Answer in a few words.")) for one in asked]
        without = [Ask(RESPONDER, _user(f"{one.text} Answer in a few words."), 1) for one in asked]
        answers = yield [*with_document, *without]
        known = [covers(one.answer, replies[0].text) for one, replies in zip(asked, answers[len(asked) :], strict=True)]
        compared = [(one, reply) for one, replies in zip(asked, answers, strict=False) for reply in replies]
        verdicts = yield [Ask(VERIFIER, _user(_comparison(one, reply)), self.verifiers) for one, reply in compared]
        judged = [_judged(one, reply, votes) for (one, reply), votes in zip(compared, verdicts, strict=True)]
        right = iter([right for right, _ in judged])
        responders = [[Outcome(float(next(right))) for _ in replies] for replies in answers[: len(asked)]]
        paid = iter([_paid([o.reward == 1.0 for o in group], k) for group, k in zip(responders, known, strict=True)])
        questioners = [Outcome(-1.0, UNREADABLE) if one is None else next(paid) for one in questions]
        unasked = [[Outcome(None, OTHER)] for _ in without]
        return [questioners, *responders, *unasked, *(outcomes for _, outcomes in judged)]

    @property
    def remembers(self) -> int:
        """The field `memory`."""
        return self.memory

    def note(self, episode: Sequence[Line]) -> list[str]:
        """The questions that some responses got right and others wrong: those whose reward is above 0."""
        solved = [
            read_question(text) for role, text, reward, _ in episode if role == QUESTIONER and (reward or 0.0) > 0
        ]
        return [f"{one.text} ({one.answer})" for one in solved if one is not None]

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """Shares: of usable questions, of right responses, and of verifiers with their majority."""
        rows = [row for episode in episodes for row in episode]
        asked = [kind == "" for role, _, _, kind in rows if role == QUESTIONER]
        found = [reward == 1.0 for role, _, reward, kind in rows if role == RESPONDER and kind != OTHER]
        agreed = [kind == AGREES for role, _, _, kind in rows if role == VERIFIER]
        named = {"usable questions": asked, "right responses": found, "verifiers agree": agreed}
        return {name: sum(values) / len(values) for name, values in named.items() if values}


AGREES, DISAGREES = "with the majority", "against the majority"
SHOWN = "Ada bought 12 lamps in Cork.\nBen bought 7 maps in Bern."
SHOWN_QUESTION = '{"question": "How many maps did Ben buy?", "answer": "7"}'


def read_question(text: str) -> Question | None:
    """The question and answer of a reply's first JSON object; None where there is none."""
    found = JSON_OBJECT.search(text)
    try:
        row = json.loads(found[0]) if found else {}
    except ValueError:
        return None
    question, answer = (str(row.get(name, "")).strip() for name in ("question", "answer"))
    return Question(question, answer) if question and answer else None


def covers(answer: str, response: str) -> bool:
    """Cover exact match: the answer's words stand in the response, in order and whole."""
    said, wanted = (re.sub(r"[^\w]+", " ", text).casefold().strip() for text in (response, answer))
    return f" {wanted} " in f" {said} " if wanted else False


def _judged(question: Question, reply: Reply, votes: Sequence[Reply]) -> tuple[bool, list[Outcome]]:
    """Whether a response is right, and its verifiers' outcomes."""
    rule = covers(question.answer, reply.text)
    read = [None if (found := VERDICT.search(vote.text)) is None else found[1].casefold() == "yes" for vote in votes]
    clear = [vote for vote in read if vote is not None]
    majority = 2 * sum(clear) > len(clear)
    share = sum(vote == majority for vote in clear) / len(read)
    trained = majority == rule and AGREEMENT[0] <= share <= AGREEMENT[1]

    def outcome(vote: bool | None) -> Outcome:
        kind = UNREADABLE if vote is None else AGREES if vote == majority else DISAGREES
        worth = -1.0 if vote is None else float(vote == majority)
        return Outcome(worth if trained else None, kind)

    return rule or majority, [outcome(vote) for vote in read]


def _paid(right: Sequence[bool], known: bool) -> Outcome:
    """A question's reward by its responses."""
    if known:
        return Outcome(-0.5, KNOWN)
    share = sum(right) / len(right)
    return Outcome(math.exp(-((share - 0.5) ** 2) / (2 * WIDTH**2)) if 0 < share < 1 else 0.0)


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _request(document: str, earlier: Sequence[str] = ()) -> str:
    asked = "\n".join(["\n\nThese were asked before. Ask something else, and harder:", *earlier]) if earlier else ""
    return (
        f"{document}{asked}\n\nWrite a question on this text that only its readers can answer, with the answer. Reply "
        'with JSON: {"question": "...", "answer": "..."}'
    )


def _comparison(question: Question, reply: Reply) -> str:
    return (
        f"Question: {question.text}\nReference answer: {question.answer}\nAnswer: {reply.text.strip()}\n\nDoes the "
        "answer say the same as the reference? Reply with one word, Yes or No."
    )


def _ledger(rng: random.Random, lines: int) -> str:
    """Purchases, one a line."""
    bought = (
        f"{rng.choice(NAMES)} bought {rng.randint(2, 40)} {rng.choice(GOODS)} in {rng.choice(TOWNS)}."
        for _ in range(lines)
    )
    return "\n".join(bought)
