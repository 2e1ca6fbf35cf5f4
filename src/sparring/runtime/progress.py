"""Progress of long work: bars on a terminal, plain lines elsewhere. Leaves out: log files.

with Progress().at("round 1/3").task("sample", 192) as advance: advance(16)
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from sparring.runtime.terminal import CURSOR_UP, terminal, visible

Advance = Callable[..., None]
LINE_EVERY = 20.0
"""seconds between plain lines of one task"""


class Progress:
    """The display of a run's progress; nothing is shown where `quiet`."""

    def __init__(self, console: Console | None = None, quiet: bool = False, place: str = "") -> None:
        self.console = console or terminal()
        self.quiet, self.place = quiet, place

    def at(self, place: str) -> Progress:
        """The same display for one part of the work, whose lines begin with its name."""
        return Progress(self.console, self.quiet, f"{place}  ")

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self.console.print(visible(f"{self.place}{text}"), markup=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Advance]:
        """A task of `total` units (None: not known); call the result with the units done, and a note to show."""
        if self.quiet:
            yield lambda done=1, note="": None
        elif self.console.is_terminal:
            with self._bars() as bars:
                task = bars.add_task(visible(f"{self.place}{title}"), total=total, note="")
                yield lambda done=1, note="": bars.update(task, advance=done, note=visible(note))
        else:
            yield self._lines(title, total)

    def _bars(self) -> Bars:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        return Bars(*columns, console=self.console)

    def _lines(self, title: str, total: int | None) -> Advance:
        start = last = time.monotonic()
        count, of = 0, "" if total is None else f"/{total}"

        def advance(done: int = 1, note: str = "") -> None:
            nonlocal count, last
            count += done
            now = time.monotonic()
            if (total is not None and count >= total) or now - last >= LINE_EVERY:
                last = now
                self.say(f"{title}  {count}{of}  {now - start:.0f} s  {note}".rstrip())

        return advance


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
