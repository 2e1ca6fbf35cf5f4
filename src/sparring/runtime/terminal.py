"""The one door to the terminal: text from outside is shown there as it is, and never obeyed.

Prompts, answers, names, paths and errors may hold rich's markup (`[/b]`), escape sequences (which clear the screen or
write the clipboard) and marks that turn the direction of the text: all are printed as visible characters. No other
module makes a console or prints (tests/runtime/test_terminal.py). Leaves out: tables and sentences (`cli/result.py`).

    screen = terminal(); screen.print("a prompt with [/INST]")
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

PIPE_WIDTH = 10_000
"""columns of a pipe whose width nobody set: no row wraps"""
BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Unicode's Bidi_Control: they show the characters around them in another order"""
VISIBLE = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
VISIBLE |= {0x7F: "\u2421", **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}}
VISIBLE |= {code: f"\\u{code:04x}" for code in (*BIDI, 0x2028, 0x2029, *range(0xD800, 0xE000))}
"""Control characters, marks of direction and lone surrogates, and what is shown for each."""
COLOUR = re.compile(r"(\x1b\[(?!0*8[;m])(?:(?!;0*8[;m])[0-9;])*m)")
"""of letters: all but 8, which hides them"""
CURSOR_UP = "\x1b[A"
"""between bars below each other"""


def visible(text: str) -> str:
    """The text with a visible sign for every character that a terminal would obey; tabs and line ends stay."""
    return text.translate(VISIBLE)


class Terminal(Console):
    """A console that takes no text for markup and writes no escape sequence but its own."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, with `visible` texts."""
        super().print(*(visible(one) if isinstance(one, str) else one for one in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's; what tables and bars hold is made visible too."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


def terminal(stderr: bool = False) -> Terminal:
    """The console that a verb prints to: as wide as the terminal, plain in a pipe or with NO_COLOR."""
    stream = sys.stderr if stderr else sys.stdout
    stream = stream.stream if isinstance(stream, _Shield) else stream
    width = None if stream.isatty() or os.environ.get("COLUMNS", "").isdigit() else PIPE_WIDTH
    plain = "auto" if stream.isatty() and not os.environ.get("NO_COLOR") else None
    return Terminal(
        file=stream, markup=False, emoji=False, highlight=False, soft_wrap=True, width=width, color_system=plain
    )


def write(text: str) -> None:
    """Text to stdout as it is, without a line end of its own."""
    sys.stdout.write(visible(text))


def flush() -> None:
    """Write what stdout still holds.

    Raises:
        OSError: it cannot be written, or nobody reads it any more; the rest is dropped.
    """
    if sys.__stdout__ is None or sys.__stdout__.closed:
        return
    try:
        sys.__stdout__.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        raise


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Show what others write to stdout and stderr - warnings, logs, tracebacks, libraries - as text, too.

    Characters that a stream's encoding lacks are written as escapes instead of ending the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    out: Any = _Shield(sys.stdout)
    err: Any = _Shield(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


class _Shield:
    """A stream that passes on text, the moves of libraries' progress bars, and on a terminal colours."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if text.replace(CURSOR_UP, "\n").strip("\n"):
            self.stream.write("\r" * text.startswith("\r") + self._plain(text.removeprefix("\r")))
        else:
            self.stream.write(text)
        return len(text)

    def _plain(self, text: str) -> str:
        pieces = COLOUR.split(text) if self.stream.isatty() else [text]
        return "".join(piece if place % 2 else visible(piece) for place, piece in enumerate(pieces))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
