"""Judging while sampling goes on: a judge behind a URL reads each prompt's responses as soon as all are there.

A thread plays the pairings of the judge stage, with the guard that this stage then asks: it finds the verdicts and asks
for the rest, so that the tables are the same. An error of the judge ends the thread alone; the judge stage meets it
again, and reports. A run that is stopped asks nothing more. Leaves out: oracles that compute in this process, which
would take the sampler's processor; responses that a killed run left, which the judge stage reads; on several
`--devices`, those of the other processes.

    with judging(step, examples, guard, seed, progress) as judged:
        sample_draws(..., on_rows=judged.on_rows)
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sparring.algorithms.algorithm import Step
from sparring.oracles.abilities import StopsAsking, nested
from sparring.oracles.guard import Guard
from sparring.rounds.judge import SHARD, play_shard
from sparring.rounds.pair import responses_of
from sparring.rounds.tables import ExampleRow, SampleRow
from sparring.runtime.errors import OracleError, first_line, reason_of
from sparring.runtime.progress import Progress


class SampledPrompts:
    """Responses by prompt as they come, and the prompts that wait for verdicts; one thread fills it, another reads."""

    def __init__(self, step: Step, examples: Sequence[ExampleRow]) -> None:
        self.step, self.examples = step, {example["example"]: example for example in examples}
        self.count = sum(draw.count for draw in step.draws())
        self.ended = threading.Event()
        self.seconds = 0.0
        """that verdicts took"""
        self._rows: defaultdict[str, list[SampleRow]] = defaultdict(list)
        self._whole: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def on_rows(self, rows: Sequence[SampleRow]) -> None:
        """Take new responses."""
        for row in rows:
            self._rows[row["example"]].append(row)
            if len(self._rows[row["example"]]) == self.count:
                self._whole.put(row["example"])

    def end(self) -> None:
        """Judge no further prompts."""
        self.ended.set()
        self._whole.put(None)

    def next(self) -> tuple[list[ExampleRow], list[SampleRow]]:
        """Prompts of which all responses are there, waited for, and these responses; none after the end."""
        names = [self._whole.get()]
        with contextlib.suppress(queue.Empty):
            while len(names) < SHARD:
                names.append(self._whole.get_nowait())
        whole = [] if self.ended.is_set() else [name for name in names if name is not None]
        return [self.examples[name] for name in whole], [row for name in whole for row in self._rows.pop(name)]

    def judge(self, guard: Guard, seed: int) -> None:
        """Play the pairings of prompt after prompt, until the end."""
        while (found := self.next())[0]:
            examples, rows = found
            begin = time.monotonic()
            play_shard(self.step.pairing, examples, responses_of(self.step, examples, rows), guard, seed)
            self.seconds += time.monotonic() - begin


@contextlib.contextmanager
def judging(
    step: Step, examples: Sequence[ExampleRow], guard: Guard, seed: int, progress: Progress
) -> Iterator[SampledPrompts]:
    """Yields what takes responses as they are sampled; a thread asks for verdicts until the end of the block."""
    prompts = SampledPrompts(step, examples)

    def work() -> None:
        try:
            prompts.judge(guard, seed)
        except Exception as error:  # the judge stage meets it again, where it stops the run or is counted
            if not prompts.ended.is_set():
                why = reason_of(error) if isinstance(error, OracleError) else first_line(error)
                progress.say(f"note  no verdicts are asked for any more while sampling goes on: {why}")

    thread = threading.Thread(target=work, name="judge while sampling", daemon=True)
    thread.start()
    try:
        yield prompts
        prompts.end()
        if thread.is_alive():
            with progress.task("judge what was asked while sampling", None):
                thread.join()
    except BaseException:  # the run stops
        prompts.end()
        for oracle, _ in nested(guard.oracle):
            if isinstance(oracle, StopsAsking):
                oracle.stop_asking()
        thread.join()
        raise
