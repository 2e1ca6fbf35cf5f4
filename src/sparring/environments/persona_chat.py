"""ALOE (2410.03642): a user who reveals itself turn by turn, and an assistant that learns to fit its answers to it.

In every turn the user tells a bit of its persona, the persona is inferred from what was said, and the assistant answers
twice: once with the inferred persona as a hint, once without. The judge, who knows the true persona, says in both
orders which answer the user would prefer; a random one of the two goes into the dialogue. Both answers are trained
under the prompt without the hint:

    assistant   +1 preferred in both orders, -1 the other one; 0 both where the orders disagree; no reward where a
                verdict cannot be read

A policy is evaluated as in the paper: answers without hints, a level of alignment from 1 to 5 for each (reward
(level - 3) / 2), its mean by turn and the slope of that. Ours: the prompts; the user is told which fact to tell next,
where the paper asks it to reveal itself bit by bit; both orders of the judge, where the released code asks in one; and,
for models that can neither infer nor judge, `inference: told` (the facts that were told) and `judge: words` (how many
words of the profile an answer mentions). Leaves out: the SFT stage and its mixture with CodeAct.

    PersonaChat(judge="words").play(Task("a", "Profile: She is a baker.\\nPersonality: She is calm."), seed=0)
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from sparring.environments.both_orders import NO_VERDICT, UNREADABLE, chance_of, kinds_of, read_order
from sparring.environments.environment import (
    Ask,
    Compare,
    Environment,
    Line,
    Outcome,
    Play,
    Replies,
    Reply,
    Task,
    after_examples,
)
from sparring.environments.personas import Persona, read_personalities

USER, INFERRER, ASSISTANT, JUDGE = "user", "inferrer", "assistant", "judge"
WITH, WITHOUT, TIE = "preferred with the persona", "preferred without", "tie"
SILENT = "said nothing"
LEVEL = re.compile(r"(?<![\d.])([1-5])(?![\d.]*\d)")
WORDS_OF_LEVEL_5 = 4
Step = Generator[list[Ask] | list[Compare], Any, Sequence[Sequence[Reply]]]


class Talk:
    """A dialogue while it goes on."""

    def __init__(self, persona: Persona) -> None:
        self.persona = persona
        self.messages: list[dict[str, str]] = []
        self.told: list[str] = []
        """the facts that the user was asked to tell so far"""
        self.outcomes: list[list[Outcome]] = []
        """by question, in the order in which they were asked"""

    def add(self, role: str, text: str) -> None:
        """A message of the user or the assistant."""
        self.messages.append({"role": role, "content": text})

    @property
    def transcript(self) -> str:
        """The dialogue as text."""
        return "\n".join(f"{'User' if m['role'] == 'user' else 'Friend'}: {m['content']}" for m in self.messages)


class PersonaChat(Environment):
    """Fields of the dialogues."""

    about = "a user reveals its persona turn by turn, an assistant answers with and without it, a judge compares"
    roles = (USER, INFERRER, ASSISTANT, JUDGE)

    turns: int = Field(default=4, ge=1, le=15)
    """of a dialogue; the paper's are 10"""
    inference: Literal["model", "told"] = "model"
    """who infers the persona of the hint: the role inferrer, as in the paper, or told: the facts told so far"""
    judge: Literal["model", "words", "oracle"] = "model"
    """who compares: the role judge, as in the paper, code that counts the profile's words in an answer, or the recipe's
    oracle, to which the persona is a system message; levels are then by words, for an oracle gives none"""
    personalities: str | None = None
    """file of JSON strings, from which a profile without a personality gets one (ALOE's personality.jsonl)"""

    @property
    def reads(self) -> Sequence[str]:
        """The file of personalities."""
        return () if self.personalities is None else (self.personalities,)

    @property
    def asks_oracle(self) -> bool:
        """Where it judges."""
        return self.judge == "oracle"

    @property
    def unasked(self) -> Sequence[str]:
        """The judge and the inferrer, where others do their work."""
        return tuple(
            role for role, works in ((INFERRER, self.inference == "model"), (JUDGE, self.judge == "model")) if not works
        )

    def play(self, task: Task, seed: int) -> Play:
        """Every turn's two answers, and what the judge says of them."""
        rng = random.Random(seed)
        talk = Talk(self._persona(task, rng))
        for _ in range(self.turns):
            yield from self._user(talk)
            answers = yield from self._answers(talk)
            yield from self._compared(talk, answers)
            talk.add("assistant", rng.choice(answers) or "...")
        return talk.outcomes

    def examine(self, task: Task, seed: int) -> Play:
        """Every turn's answer without a hint, and its level of alignment."""
        talk = Talk(self._persona(task, random.Random(seed)))
        for _ in range(self.turns):
            yield from self._user(talk)
            ((answer,),) = yield [Ask(ASSISTANT, [*talk.messages], 1)]
            level = level_of_words(talk.persona, answer.text)
            verdict: list[list[Outcome]] = []
            if self.judge == "model":
                ((reply,),) = yield [Ask(JUDGE, _rating(talk, answer.text), 1)]
                level = read_level(reply.text)
                verdict = [[Outcome(None, UNREADABLE if level is None else "")]]
            graded = Outcome(None, NO_VERDICT) if level is None else Outcome((level - 3) / 2)
            talk.outcomes += [[graded], *verdict]
            talk.add("assistant", answer.text.strip() or "...")
        return talk.outcomes

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """The mean level of alignment by turn, and its least-squares slope over the turns."""
        levels: defaultdict[int, list[float]] = defaultdict(list)
        for episode in episodes:
            rewards = [reward for role, _, reward, _ in episode if role == ASSISTANT]
            for turn, reward in enumerate(rewards, start=1):
                if reward is not None:
                    levels[turn].append(3 + 2 * reward)
        means = {turn: float(np.mean(values)) for turn, values in sorted(levels.items())}
        found = {f"alignment in turn {turn}": mean for turn, mean in means.items()}
        if len(means) > 1:
            found["alignment, mean"] = float(np.mean([*means.values()]))
            found["alignment, slope by turn"] = float(np.polyfit([*means], [*means.values()], 1)[0])
        return found

    def _persona(self, task: Task, rng: random.Random) -> Persona:
        persona = Persona.read(task.prompt)
        if not persona.personality and self.personalities is not None:
            persona = persona._replace(personality=rng.choice(read_personalities(self.personalities)))
        if not persona.facts or not persona.personality:
            raise ValueError(
                "the row is no persona. Give rows with profile and personality, or a file of profiles, each a JSON "
                "string, and environment.personalities."
            )
        return persona

    def _user(self, talk: Talk) -> Step:
        """The user's next message."""
        facts = talk.persona.facts
        fact = facts[len(talk.told) % len(facts)]
        talk.told.append(fact)
        replies = yield [Ask(USER, after_examples(_user_question(talk, fact), *USER_EXAMPLES), 1)]
        text = replies[0][0].text.strip()
        talk.outcomes.append([Outcome(None, "" if text else SILENT)])
        talk.add("user", text or "...")
        return replies

    def _answers(self, talk: Talk) -> Generator[list[Ask], Replies, tuple[str, str]]:
        """The answers with and without the hint; the outcomes follow when they were compared."""
        if self.inference == "told":
            known = " ".join(dict.fromkeys(talk.told))
        else:
            ((inferred,),) = yield [Ask(INFERRER, [{"role": "user", "content": _inference(talk)}], 1)]
            known = inferred.text.strip()
            talk.outcomes.append([Outcome(None, "" if known else SILENT)])
        *before, last = talk.messages
        hinted = [*before, {**last, "content": f"{last['content']}\n\n{HINT.format(known)}"}]
        with_hint, without = yield [
            Ask(ASSISTANT, hinted, 1, taught=[*talk.messages]),
            Ask(ASSISTANT, [*talk.messages], 1),
        ]
        return with_hint[0].text.strip(), without[0].text.strip()

    def _compared(self, talk: Talk, answers: tuple[str, str]) -> Step:
        """The judge's verdict on both, as outcomes."""
        if self.judge == "words":
            a, b = (level_of_words(talk.persona, text) for text in answers)
            talk.outcomes += [[one] for one in _paid((a > b) - (a < b))]
            return []
        if self.judge == "oracle":
            persona = {"role": "system", "content": f"The user is this person.\n{_about(talk.persona)}"}
            (chance,) = yield [Compare([persona, *talk.messages], *answers)]
            talk.outcomes += [[one] for one in _paid(None if chance is None else 2 * chance - 1)]
            return []
        asks = [Ask(JUDGE, _comparison(talk, *pair), 1) for pair in (answers, answers[::-1])]
        replies = yield asks
        there, back = (read_order(group[0].text) for group in replies)
        chance = chance_of(there, back)
        paid = _paid(None if chance is None else round(2 * chance - 1))
        talk.outcomes += [[one] for one in (*paid, *(Outcome(None, kind) for kind in kinds_of(there, back)))]
        return replies


def level_of_words(persona: Persona, text: str) -> float:
    """From 1 to 5 by how many words of the profile an answer mentions."""
    return 1.0 + min(persona.mentions(text), WORDS_OF_LEVEL_5)


def read_level(text: str) -> float | None:
    """The only whole number from 1 to 5 of a reply."""
    found = set(LEVEL.findall(text))
    return float(found.pop()) if len(found) == 1 else None


def _paid(verdict: float | None) -> tuple[Outcome, Outcome]:
    """The outcomes of the answers with and without the hint; 1: the former is preferred, -1: the latter."""
    if verdict is None:
        return Outcome(None, NO_VERDICT), Outcome(None)
    kind = TIE if verdict == 0 else WITH if verdict > 0 else WITHOUT
    return Outcome(float(verdict), kind), Outcome(float(-verdict))


HINT = "(What is known of me: {} Reply to me in one or two sentences that fit me, and do not say that you know it.)"
TELL = "Tell a friend in one sentence, speaking of yourself as I: {}"
USER_EXAMPLES = (
    (TELL.format("She is a 33-year-old sailor."), "Hi, I'm a sailor, and I just turned 33!"),
    (TELL.format("He plays the cello."), "This evening I'll play my cello again."),
)


def _user_question(talk: Talk, fact: str) -> str:
    last = f"Your friend said: {talk.messages[-1]['content']}\n" if talk.messages else ""
    return f"{last}You are like this: {talk.persona.personality}\n{TELL.format(fact)}"


def _inference(talk: Talk) -> str:
    return (
        f"A dialogue:\n{talk.transcript}\n\nThe user is this person.\n{_about(talk.persona)}\n\nCopy those sentences "
        "of profile and personality that the user has shown in the dialogue so far, and nothing else."
    )


def _comparison(talk: Talk, first: str, second: str) -> list[dict[str, str]]:
    return _judge(
        talk,
        f"First answer: {first}\nSecond answer: {second}\n\nWhich answer would this user prefer? Reply with one word, "
        "first or second.",
    )


def _rating(talk: Talk, answer: str) -> list[dict[str, str]]:
    return _judge(
        talk,
        f"Answer: {answer}\n\nHow well do style and content of the answer fit this user, from 1 (not at all) to 5 "
        "(perfectly)? Reply with the number alone.",
    )


def _judge(talk: Talk, question: str) -> list[dict[str, str]]:
    about, said = _about(talk.persona), talk.messages[-1]["content"]
    return [{"role": "user", "content": f"A user is this person.\n{about}\nThe user says: {said}\n{question}"}]


def _about(persona: Persona) -> str:
    return f"Profile: {persona.profile}\nPersonality: {persona.personality}"
