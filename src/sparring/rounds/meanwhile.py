"""Judging while sampling goes on: a judge behind a URL reads each prompt's responses as soon as all are there.

Sampling takes this machine's devices and such a judge somebody else's, so a round takes the longer of both and not
their sum. A thread plays the same pairings as the judge stage, whose oracle then finds the verdicts in the run's file
and asks for the rest: the tables are the same. An error of the judge ends this alone; the judge stage asks again, and
reports. Leaves out: oracles that compute here, which would take the sampler's processor; responses that a killed run
left, which the judge stage has read; on several `--devices`, those of the other processes.

    with judging(step, examples, guard, seed, progress) as seen:
        sample_draws(..., seen=seen)
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sparring.algorithms.algorithm import Step
from sparring.oracles.guard import Guard
from sparring.rounds.judge import play_shard
from sparring.rounds.pair import responses_of
from sparring.rounds.sample import Seen
from sparring.rounds.tables import ExampleRow, SampleRow
from sparring.runtime.errors import reason_of
from sparring.runtime.progress import Progress

AT_ONCE = 8
"""prompts whose verdicts are asked together; a stopped run waits for those that were asked"""


@contextlib.contextmanager
def judging(step: Step, examples: Sequence[ExampleRow], guard: Guard, seed: int, progress: Progress) -> Iterator[Seen]:
    """Yields a function that is told of rows as they are sampled; verdicts are asked for in a thread until the end."""
    work = _Work(step, examples)
    thread = threading.Thread(target=_judge, args=(work, step, guard, seed, progress), daemon=True)
    thread.start()
    try:
        yield work.seen
    finally:
        work.end.set()
        work.ready.put(None)
        thread.join()


class _Work:
    """Sampled rows by prompt, and the prompts that are to be judged."""

    def __init__(self, step: Step, examples: Sequence[ExampleRow]) -> None:
        self.examples = {example["example"]: example for example in examples}
        self.responses = sum(draw.count for draw in step.draws())
        self.rows: defaultdict[str, list[SampleRow]] = defaultdict(list)
        self.ready: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.end = threading.Event()

    def seen(self, rows: Sequence[SampleRow]) -> None:
        """Take new rows."""
        for row in rows:
            self.rows[row["example"]].append(row)
            if len(self.rows[row["example"]]) == self.responses:
                self.ready.put(row["example"])

    def next(self) -> list[str]:
        """The next prompts, waited for; none at the end."""
        first = self.ready.get()
        names = [first]
        with contextlib.suppress(queue.Empty):
            while len(names) < AT_ONCE:
                names.append(self.ready.get_nowait())
        return [] if self.end.is_set() else [name for name in names if name is not None]


def _judge(work: _Work, step: Step, guard: Guard, seed: int, progress: Progress) -> None:
    try:
        while names := work.next():
            examples = [work.examples[name] for name in names]
            responses = responses_of(step, examples, [row for name in names for row in work.rows.pop(name)])
            play_shard(step.pairing, examples, responses, guard, seed)
    except Exception as error:  # the judge stage meets it again, where it stops the run or is counted
        progress.say(f"note  no more verdicts while sampling: {reason_of(error)} The judge stage asks again.")
