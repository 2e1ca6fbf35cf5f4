"""Answers of stored policies, one at a time, in a thread beside the pages.

At most `KEPT` policies stay in memory; the one that was used least recently leaves first. A question that nobody waits
for any more is stopped at its next token. Sampling is the package's own (`rounds/engines.py`), with the run's settings
but for the length. Leaves out: conversations (`talks.py`).

    job = Generator().ask([Question(iterate, messages, seed=1)]); job.note; job.answers[0].text
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sparring.runtime.errors import reason_of
from sparring.runtime.layout import RUN_LOCK
from sparring.runtime.locks import is_held
from sparring.serve.iterates import Iterate

if TYPE_CHECKING:
    from sparring.rounds.engines import PolicyEngines

KEPT = 2
"""policies in memory"""
MOST_WAITING = 8
"""questions that wait for their turn"""
CLOSE_SECONDS = 5.0
"""that the end of the server waits for the answer on its way"""
MOST_TOKENS = 1024
"""of an answer, where the run's sampling.max_new_tokens allows more"""
LOG = logging.getLogger("sparring")
Tell = Callable[[str], None]


class Busy(RuntimeError):
    """Too many wait already."""


class Cancelled(RuntimeError):
    """Nobody waits for the answer any more."""


class Question(NamedTuple):
    """The turns to which a policy replies."""

    iterate: Iterate
    messages: Sequence[Mapping[str, str]]
    seed: int


class Answer(NamedTuple):
    """A policy's response."""

    text: str
    cut: bool
    """whether it was cut off at its most tokens"""


class Sampler(Protocol):
    """What answers; it tells how far it is before every token, and `tell` may raise `Cancelled`."""

    def answer(self, question: Question, tell: Tell) -> Answer:
        """The response. Raises ValueError with a sentence where there can be none."""
        ...

    def forget(self) -> None:
        """Let go of what is kept in memory."""
        ...


@dataclass(slots=True)
class Job:
    """Questions that one person waits for."""

    questions: Sequence[Question]
    note: str = "waiting"
    answers: list[Answer] = field(default_factory=list)
    error: str = ""
    """why there is no answer, in a sentence"""
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


class Generator:
    """Works off jobs in their order, in one thread that begins with the first one."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._sampler = sampler
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, questions: Sequence[Question]) -> Job:
        """Put questions at the end of the queue.

        Raises:
            Busy: `MOST_WAITING` wait already, or the server ends.
        """
        with self._changed:
            if self._closed:
                raise Busy("The server ends.")
            if len(self._waiting) >= MOST_WAITING:
                raise Busy(
                    f"{MOST_WAITING} people wait for an answer already, and this machine gives one at a time. Send it "
                    "again in a minute."
                )
            job = Job(questions)
            self._waiting.append(job)
            self._number()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
                self._thread.start()
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Stop a job: at once where it waits, at its next token where it is answered."""
        job.cancelled.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._number()
                _end(job, "Stopped before its turn came.")

    def close(self) -> None:
        """Stop what goes on, at its next token, and end the thread."""
        with self._changed:
            self._closed = True
            if self._running is not None:
                self._running.cancelled.set()
            while self._waiting:
                _end(self._waiting.popleft(), "Stopped: the server ends.")
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _number(self) -> None:
        for place, job in enumerate(self._waiting, 1):
            job.note = f"waiting: {place} in the queue" if place > 1 else "waiting"

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._running = job = self._waiting.popleft()
                self._number()
            self._answer(job)

    def _answer(self, job: Job) -> None:
        several = len(job.questions) > 1
        try:
            self._sampler = self._sampler or PolicySampler()
            for number, question in enumerate(job.questions, 1):
                which = f"answer {number} of {len(job.questions)}: " if several else ""

                def tell(note: str, which: str = which) -> None:
                    if job.cancelled.is_set():
                        raise Cancelled
                    job.note = which + note

                job.answers.append(self._sampler.answer(question, tell))
            _end(job)
        except Cancelled:
            _end(job, "Stopped.")
        except (ValueError, OSError, ImportError) as error:
            _end(job, f"No answer: {reason_of(error).rstrip('.')}.")
        except Exception as error:
            from sparring.runtime.memory import ran_out

            if ran_out(error):
                assert self._sampler is not None
                self._sampler.forget()
                _end(
                    job, "No answer: the machine ran out of memory. Close what uses it, or take a shorter conversation."
                )
                return
            LOG.exception("an answer failed")
            _end(job, "No answer: something went wrong here; the server's terminal says what.")


def _end(job: Job, error: str = "") -> None:
    job.error = error
    job.done.set()


class PolicySampler:
    """Stored policies as the package samples from them, some kept in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], tuple[PolicyEngines, int | None]] = OrderedDict()

    def answer(self, question: Question, tell: Tell) -> Answer:
        """The policy's response with the run's settings, at most `MOST_TOKENS` long."""
        if _run_needs_accelerator(question.iterate):
            self.forget()
            raise ValueError(
                "the run goes on here, and a policy beside it would take memory of its accelerator. Wait until it is "
                "finished or stopped."
            )
        tell("loading the policy" if self._key(question.iterate) not in self._kept else "reading")
        from sparring.sampling.engine import Request
        from sparring.sampling.watch import Watch

        engines, room = self._engines(question.iterate)
        (ref,) = engines.draw.policies
        engine = engines.get((ref,))
        ids = engines.policies.chat.prompt_ids([dict(one) for one in question.messages])
        most = engines.settings.max_new_tokens
        if room is not None and len(ids) > room - most:
            raise ValueError(
                f"the conversation has {len(ids):,} tokens, and the model reads {room:,} with {most:,} for its "
                "answer. Begin a new one."
            )
        with Watch(1, most, lambda done=1, note="": tell(note)).over(engine.models[0][0]):
            (response,) = engine.sample([Request(ids, question.seed)])
        return Answer(engines.policies.chat.decode(response.token_ids), response.finish_reason == "length")

    def forget(self) -> None:
        """Let go of all policies."""
        from sparring.runtime.memory import release_memory

        self._kept.clear()
        release_memory()

    def _key(self, iterate: Iterate) -> tuple[object, ...]:
        return iterate.run, iterate.round, iterate.mark

    def _engines(self, iterate: Iterate) -> tuple[PolicyEngines, int | None]:
        """The loaded policy, and how many tokens it can read."""
        key = self._key(iterate)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        from sparring.runtime.memory import release_memory

        while len(self._kept) >= KEPT:
            self._kept.popitem(last=False)
            release_memory()
        self._kept[key] = made = _load(iterate)
        return made


def _run_needs_accelerator(iterate: Iterate) -> bool:
    from sparring.runtime import gpus

    return gpus.there() and is_held(iterate.run / RUN_LOCK)


def _load(iterate: Iterate) -> tuple[PolicyEngines, int | None]:
    """Raises ValueError where its files are not what the run recorded, or not there."""
    from sparring.algorithms.algorithm import Draw
    from sparring.contests.players import PolicyPlayer
    from sparring.models.weights import context_length
    from sparring.rounds.engines import PolicyEngines

    player = PolicyPlayer(f"{iterate.run}:{iterate.round}", Path(iterate.run))
    most = min(player.sampling.max_new_tokens, MOST_TOKENS)
    changes: dict[str, Any] = {"engine": "transformers", "max_new_tokens": most, "batch_size": 1}
    settings = player.settings(changes)
    engines = PolicyEngines(player.policies, Draw("own", 1, {player.ref: 1.0}), settings)
    engines.get((player.ref,))
    return engines, context_length(player.policies.base, player.policies.model.trust_remote_code)
