"""Output of every verb: tables and sentences that fit 80 columns, and JSON that names its files.

In a pipe a row stays one line, however long, and no escape code is written; `COLUMNS` sets a width there too. Leaves
out: the numbers.

    screen = terminal(); screen.print(table("", ("run", "time, s"), [("demo", "720")])); say(screen, "finished")
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sparring.evaluation.result import finite, store_result
from sparring.runtime.terminal import PIPE_WIDTH as PIPE_WIDTH
from sparring.runtime.terminal import terminal as terminal
from sparring.runtime.terminal import visible
from sparring.runtime.terminal import write as write

if TYPE_CHECKING:
    from sparring.evaluation.intervals import Interval

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
GAP = 2
"""blanks between columns"""
WORD_JOINER = "\u2060"
LONG_WORD = 30
"""longer words, such as paths, are broken before a table grows wider than the terminal"""
NUMBER = re.compile(r"[-+−]?\d.{0,16}|[-–?]?")
"""cells that are aligned right: short ones that begin with a digit, and marks for a number that is missing"""


def say(screen: Console, *lines: str) -> None:
    """Sentences, wrapped between words where the width is known; no path or command is broken."""
    for line in lines:
        screen.print(_Sentence(line))


class _Sentence:
    """Plain text, of which no word is broken."""

    def __init__(self, text: str, style: str = "") -> None:
        self.text, self.style = _plain(text), style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self.text.split("\n"):
            pieces = textwrap.wrap(line, options.max_width, break_long_words=False, break_on_hyphens=False) or [""]
            yield from (Text(piece, self.style, no_wrap=True, overflow="ignore") for piece in pieces)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """Rows of plain text under heads, without a frame; no head at all where every column's is empty.

    Columns of numbers are aligned right and never wrapped; a long text wraps in its own column. No cell is cut short.
    """
    return Group(*([_Sentence(title, "bold")] if title else []), _Grid(columns, rows))


class _Grid:
    """Columns as wide as their texts where that fits, else with wrapped heads, and then wrapped texts."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.columns = [_plain(column) for column in columns]
        self.rows = [[_plain(cell) for cell in row] for row in rows]
        self.cells = [[row[place] for row in self.rows] for place in range(len(columns))]
        self.numeric = [
            place > 0 and all(NUMBER.fullmatch(cell) for cell in cells) for place, cells in enumerate(self.cells)
        ]

    def _widths(self, room: int) -> list[int]:
        """The width of every column; together they fill `room` at most, where that is possible."""
        columns = list(zip(self.columns, self.cells, self.numeric, strict=True))
        widths = [max(map(_longest_line, (head, *cells))) for head, cells, _ in columns]
        least = [
            max(_longest_word(head), max(map(_longest_line if numeric else _longest_word, cells), default=0))
            for head, cells, numeric in columns
        ]
        excess = sum(widths) + GAP * (len(widths) - 1) - room
        for numbers in (True, False):  # heads of numbers wrap before texts do
            while excess > 0:
                wide = [i for i, n in enumerate(self.numeric) if n == numbers and widths[i] > min(least[i], LONG_WORD)]
                if not wide:
                    break
                widths[max(wide, key=widths.__getitem__)] -= 1
                excess -= 1
        return widths

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=any(self.columns))
        for head, numeric, width in zip(self.columns, self.numeric, self._widths(options.max_width), strict=True):
            grid.add_column(Text(head, "bold"), justify="right" if numeric else "left", width=width, overflow="fold")
        for row in self.rows:
            grid.add_row(*map(Text, row))
        wider = options.update(max_width=PIPE_WIDTH, no_wrap=False, overflow="fold")
        for line in console.render_lines(grid, wider, pad=False):
            # No blanks at the end: they would wrap a full line of a terminal, and a copied one has them.
            while line and not line[-1].text.strip():
                line.pop()
            yield from line[:-1]
            yield from [Segment(last.text.rstrip(), last.style) for last in line[-1:]]
            yield Segment.line()


def _plain(text: str) -> str:
    """What a terminal shows of a text; marks that keep a number on one line of a page would only break its copy."""
    return visible(text).replace(WORD_JOINER, "")


def _longest_line(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def print_json(value: Any) -> None:
    """A line of JSON to stdout, in ASCII; null for numbers that are not finite, a dataclass as its fields."""
    write(json.dumps(finite(value), allow_nan=False).replace("\x7f", "\\u007f") + "\n")


def percent_cells(share: Interval | None, sign: str = "") -> tuple[str, str]:
    """A share in per cent and its interval, as two cells of a table."""
    if share is None:
        return "-", "-"
    percent = share.scaled(100)
    return f"{percent.value:{sign}.1f}", percent.span(f"{sign}.1f")


def finish(
    result: Mapping[str, Any], files: Sequence[Path], out: Path | None, as_json: bool, show: Callable[[Console], None]
) -> None:
    """Store `result` with the hashes of the files that it came from, then print or show it."""
    stored = store_result(result, files, out)
    if as_json:
        print_json(stored)
    else:
        show(terminal())


def existing(paths: Sequence[Path]) -> list[Path]:
    """The paths, after a check that all are files."""
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} is not a file.")
    return list(paths)
