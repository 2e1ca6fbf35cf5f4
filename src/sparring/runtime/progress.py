"""Progress of long work: bars on a terminal, plain lines elsewhere, and a small file for pages. Leaves out: log files.

with Progress().at("round 1/3").task("sample", 192) as advance: advance(16)
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from sparring.runtime.terminal import CURSOR_UP, terminal, visible
from sparring.runtime.words import rough

Advance = Callable[..., None]
Left = Callable[[], float | None]
"""seconds that the whole work will still take; None where that is not known"""
Nodes = Callable[[], Sequence[Mapping[str, Any]]]
"""the machines that work now, as plain data; none where this one works alone"""
RECORD_EVERY = 1.0
"""seconds between two writings of the file"""
LINE_EVERY = 20.0
"""seconds between plain lines of one task"""
AT_ONCE = 1.0
"""seconds within which units come from an earlier process: they say nothing of the speed"""


class Recorder:
    """Keeps what is being done in a file, every second at most, for pages that watch; see `Progress.recorded`."""

    def __init__(self, path: Path, nodes: Nodes = list) -> None:
        """`nodes`: the machines that work, which the file names too."""
        self.path, self._partial, self._last = path, path.with_name(f".{path.name}.partial"), 0.0
        self._nodes = nodes

    def forget_earlier(self) -> None:
        """Take away what an earlier process was doing, unless this one has written already."""
        if not self._last:
            self.path.unlink(missing_ok=True)

    def record(self, row: Mapping[str, Any], at_once: bool) -> None:
        """Write it, unless the file is fresh. Not flushed to disk, and no error where it cannot be written."""
        if not at_once and time.monotonic() - self._last < RECORD_EVERY:
            return
        self._last = time.monotonic()
        row = {**row, "at": time.time(), **({"nodes": nodes} if (nodes := self._nodes()) else {})}
        with contextlib.suppress(OSError):
            self._partial.write_text(json.dumps(row))
            self._partial.replace(self.path)


class Progress:
    """The display of a run's progress; nothing is shown where `quiet`."""

    def __init__(
        self,
        console: Console | None = None,
        quiet: bool = False,
        place: str = "",
        left: Left = lambda: None,
        recorder: Recorder | None = None,
    ) -> None:
        self.console = console or terminal()
        self.quiet, self.place, self.left, self.recorder = quiet, place, left, recorder

    def at(self, place: str, left: Left | None = None) -> Progress:
        """The same display for one part of the work, whose lines begin with its name; `left`: of all parts."""
        return Progress(self.console, self.quiet, f"{place}  ", left or self.left, self.recorder)

    def recorded(self, recorder: Recorder) -> Progress:
        """The same display, which also keeps its task in a file: {"doing": ..., "done": 3, "total": 8, ...}."""
        return Progress(self.console, self.quiet, self.place, self.left, recorder)

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self.console.print(visible(f"{self.place}{text}"), markup=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Advance]:
        """A task of `total` units (None: not known); call the result with the units done, and a note to show."""
        with self._displayed(title, total) as advance:
            yield advance if self.recorder is None else self._recording(self.recorder, title, total, advance)

    def _recording(self, recorder: Recorder, title: str, total: int | None, shown: Advance) -> Advance:
        row = {
            "doing": f"{self.place}{title}",
            "done": 0,
            "total": total,
            "note": "",
            "before": 0,
            "began": time.time(),
        }
        recorder.record(row, at_once=True)

        def advance(done: int = 1, note: str = "") -> None:
            nonlocal row
            count = row["done"] + done
            before = count if time.time() - row["began"] < AT_ONCE else row["before"]
            row = {**row, "done": count, "before": before, "note": note}
            shown(done, note=note)
            recorder.record(row, at_once=count == total)

        return advance

    @contextlib.contextmanager
    def _displayed(self, title: str, total: int | None) -> Iterator[Advance]:
        if self.quiet:
            yield lambda done=1, note="": None
        elif self.console.is_terminal:
            with self._bars(_Times(self.left())) as bars:
                task = bars.add_task(visible(f"{self.place}{title}"), total=total, note="")
                yield lambda done=1, note="": bars.update(task, advance=done, note=visible(note))
        else:
            yield self._lines(title, total)

    def _bars(self, times: ProgressColumn) -> Bars:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            times,
            TextColumn("{task.fields[note]}", markup=False),
        )
        return Bars(*columns, console=self.console)

    def _lines(self, title: str, total: int | None) -> Advance:
        start = last = time.monotonic()
        count, before, of = 0, 0, "" if total is None else f"/{total}"
        whole = self.left()

        def advance(done: int = 1, note: str = "") -> None:
            nonlocal count, before, last
            count += done
            now = time.monotonic()
            before = count if now - start < AT_ONCE else before
            if (total is not None and count >= total and done) or now - last >= LINE_EVERY:
                last, gone = now, now - start
                left = gone * (total - count) / (count - before) if total and count > before else None
                self.say(f"{title}  {count}{of}  {times(gone, left, whole)}  {note}".rstrip())

        return advance


class _Times(ProgressColumn):
    """The times of a bar's task."""

    def __init__(self, whole: float | None) -> None:
        super().__init__()
        self.whole = whole

    def render(self, task: Task) -> Text:
        """As a line's."""
        gone = task.finished_time if task.finished else task.elapsed
        return Text(times(gone or 0.0, None if task.finished else task.time_remaining, self.whole))


def times(gone: float, left: float | None, whole: float | None) -> str:
    """What a task took, and will still take; `whole`: what all work was to take when the task began.

    A task that took longer than that says nothing of the rest of the run: more may come after it.

    >>> times(72, 200, 900)
    '72 s gone, about 3 min left (run: about 14 min left)'
    """
    said = f"{gone:.0f} s gone, about {rough(left)} left" if left else f"{gone:.0f} s"
    if whole is None or whole - gone < 1:
        return said
    return f"{said} (run: about {rough(max(left or 0.0, whole - gone))} left)"


QUIET = Progress(quiet=True)
"""for work whose caller reports the progress"""


@contextlib.contextmanager
def plain_lines() -> Iterator[None]:
    """The bars that a library draws on stderr, as a line now and then where stderr is no terminal."""
    if sys.stderr.isatty():
        yield
    else:
        with contextlib.redirect_stderr(_Drawn(sys.stderr)):
            yield


class _Drawn(io.TextIOBase):
    """Takes a bar that is drawn again and again; passes on each one's end, and how far it is in between."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.bar, self.last = stream, "", time.monotonic()

    def write(self, text: str) -> int:
        if text.startswith("\r") and not text.endswith("\n"):
            self.bar = text.rpartition("\r")[2].strip()
            if self.bar and time.monotonic() - self.last >= LINE_EVERY:
                self._line()
        elif text == "\n" and self.bar:
            self._line()
        elif text.replace(CURSOR_UP, ""):
            self.bar = ""
            self.stream.write(text)
        return len(text)

    def _line(self) -> None:
        self.stream.write(f"{self.bar}\n")
        self.bar, self.last = "", time.monotonic()

    def flush(self) -> None:
        self.stream.flush()
