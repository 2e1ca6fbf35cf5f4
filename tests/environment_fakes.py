"""Environments for tests: tiny games whose rewards differ between gibberish, and some that break the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from sparring.environments.environment import Ask, Compare, Environment, Outcome, Play, Reply, Task
from sparring.environments.sequential import SequentialGame


def worth(text: str) -> float:
    """-1, 0 or 1 by what a text is made of."""
    return float(sum(map(ord, text)) % 3 - 1)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class WriterReader(Environment):
    """A reader answers what a writer wrote; texts that end in a vowel are of their own kind and not trained on."""

    about = "writer and reader"
    roles = ("writer", "reader")

    def play(self, task: Task, seed: int) -> Play:
        (written,) = yield [Ask("writer", user(task.prompt))]
        read = yield [Ask("reader", user(f"{reply.text!r}? {seed % 7}"), 2) for reply in written[:2]]
        return [[_graded(reply) for reply in replies] for replies in [written, *read]]


class Remembering(WriterReader):
    """Is told how many notes it made before."""

    @property
    def remembers(self) -> int:
        return 2

    def note(self, episode: Any) -> list[str]:
        return [text for role, text, _, _ in episode if role == "writer"][:1]

    def play(self, task: Task, seed: int) -> Play:
        (written,) = yield [Ask("writer", user(f"{task.prompt} {len(task.notes)}"))]
        return [[Outcome(float(sum(map(ord, reply.text)) % 3 - 1)) for reply in written]]


class Pausing(WriterReader):
    """Asks nothing in between."""

    def play(self, task: Task, seed: int) -> Play:
        (written,) = yield [Ask("writer", user(task.prompt))]
        nothing = yield []
        assert nothing == []
        return [[_graded(reply) for reply in written]]


class Wordy(WriterReader):
    """Asks the writer at length about words that end in a t."""

    def play(self, task: Task, seed: int) -> Play:
        (written,) = yield [Ask("writer", user(task.prompt + "!" * 30 * task.prompt.endswith("t")))]
        return [[_graded(reply) for reply in written]]


class Compared(WriterReader):
    """The oracle compares what was written with a text of vowels; `mixes`: it asks a role in the same wave."""

    promises: bool = True
    mixes: bool = False

    @property
    def asks_oracle(self) -> bool:
        return self.promises

    @property
    def unasked(self) -> Sequence[str]:
        return ("reader",)

    def play(self, task: Task, seed: int) -> Play:
        (written,) = yield [Ask("writer", user(task.prompt))]
        mixed = [Ask("writer", user("Again?"), 1)] if self.mixes else []
        compared = [Compare(user(task.prompt), reply.text, "aei") for reply in written]
        verdicts = yield [*compared, *mixed]  # type: ignore[misc]  # refused, where it mixes
        return [[Outcome(None, "no verdict") if p is None else Outcome(2 * p - 1) for p in verdicts]]


def _graded(reply: Reply) -> Outcome:
    vowel = reply.text[-1:] in "aeiou" and reply.text != ""
    return Outcome(None, "vowel") if vowel else Outcome(worth(reply.text))


class Faulty(Environment):
    """Breaks one rule."""

    about = "faulty"
    roles = ("writer", "reader")
    zero_sum: ClassVar[bool] = True
    most_waves: ClassVar[int] = 3

    fault: str

    def play(self, task: Task, seed: int) -> Play:
        if self.fault == "raises":
            raise KeyError("lost")
        if self.fault == "count":
            yield [Ask("writer", user("Say."), 0)]
        if self.fault == "text":
            yield [Ask("writer", "Say.")]  # type: ignore[arg-type]
        if self.fault == "role":
            yield [Ask("judge", user("Hm?"))]
        while self.fault == "endless":
            yield [Ask("writer", user("Again?"), 1)]
        yield [Ask("writer", user("Say."), 1), Ask("reader", user("Hear."), 1)]
        return RESULTS[self.fault]()


RESULTS: dict[str, Callable[[], Any]] = {
    "nan": lambda: [[Outcome(float("nan"))], [Outcome(0.0)]],
    "range": lambda: [[Outcome(2.0)], [Outcome(-1.0)]],
    "sum": lambda: [[Outcome(1.0)], [Outcome(1.0)]],
    "missing": lambda: [[Outcome(1.0)]],
    "number": lambda: 3.0,
    "type": lambda: [[Outcome("1")], [Outcome(0.0)]],  # type: ignore[arg-type]
}


def play_out(
    environment: Environment,
    answer: Callable[[Ask, int], str],
    seed: int = 0,
    count: int = 2,
    task: Task = Task("task", "prompt"),  # noqa: B008
    examines: bool = False,
    judge: Callable[[Compare], float | None] = lambda one: 0.5,
) -> tuple[list[Ask], list[list[str]], Sequence[Sequence[Outcome]]]:
    """The questions, replies and outcomes of an episode in which `answer` gives the k-th reply to a question."""
    play, asks, texts = (environment.examine if examines else environment.play)(task, seed), [], []
    wave = next(play)
    while True:
        if wave and all(isinstance(one, Compare) for one in wave):
            try:
                wave = play.send([judge(one) for one in wave])
                continue
            except StopIteration as stop:
                return asks, texts, stop.value
        asked = [one for one in wave if isinstance(one, Ask)]
        replies = [[answer(ask, k) for k in range(ask.count or count)] for ask in asked]
        asks += asked
        texts += replies
        try:
            wave = play.send([[Reply(text, True) for text in group] for group in replies])
        except StopIteration as stop:
            return asks, texts, stop.value


class Nim(SequentialGame):
    """Five stones, of which a move takes one or two; who takes the last one wins. A state: stones left, moves made."""

    about = "Nim with five stones"

    def starts(self) -> Sequence[tuple[float, tuple[int, int]]]:
        return [(1.0, (5, 0))]

    def mover(self, state: tuple[int, int]) -> str | None:
        return self.roles[state[1] % 2] if state[0] else None

    def observation(self, state: tuple[int, int]) -> str:
        return " ".join(["stone"] * state[0])

    def legal(self, state: tuple[int, int]) -> Sequence[str]:
        return ("one", "two")[: state[0]]

    def after(self, state: tuple[int, int], move: str) -> tuple[int, int]:
        return state[0] - 1 - (move == "two"), state[1] + 1

    def returns(self, state: tuple[int, int]) -> dict[str, float]:
        last = 1.0 if state[1] % 2 else -1.0
        return {"first": last, "second": -last}
