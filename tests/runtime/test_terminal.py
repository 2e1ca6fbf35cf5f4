"""Text from outside is shown and never obeyed, whoever prints it; and nobody but `runtime/terminal.py` does."""

from __future__ import annotations

import ast
import io
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console

import sparring
from sparring.runtime.progress import Progress
from sparring.runtime.terminal import shielded, terminal, visible, write

SRC = Path(sparring.__file__).parent
PRINTERS = {"print", "Console", "echo", "secho", "rprint"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
ALONE = {"runtime/terminal.py", "bench/peers", "sampling/vllm_child.py"}
"""the door, and programs that run in processes of their own"""
HOSTILE = "[/b] [b]bold[/b] \\[x] :smile: {x} "
HOSTILE += "\x1b]52;c;cHduZWQ=\x07 \x1b[2J\x1b[8m \x9b31m \x7f \u202egpj.exe\u202c \u2066 \udcff"
SHOWN = "[/b] [b]bold[/b] \\[x] :smile: {x} "
SHOWN += "␛]52;c;cHduZWQ=␇ ␛[2J␛[8m \\x9b31m ␡ \\u202egpj.exe\\u202c \\u2066 \\udcff"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of 200 columns with colours, which is stdout and stderr."""
    stream = Screen()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    return stream


def test_a_console_prints_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = at_screen(monkeypatch)
    terminal().print(HOSTILE)
    write(HOSTILE + "\n")
    assert screen.getvalue() == f"{SHOWN}\n{SHOWN}\n"


def test_progress_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = at_screen(monkeypatch)
    progress = Progress()
    progress.say(HOSTILE)
    with progress.task(HOSTILE, 2) as advance:
        advance(2, HOSTILE)
    said = screen.getvalue()
    assert said.startswith(SHOWN + "\n")
    assert said.count("[b]bold[/b]") >= 3
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert not set(said) & set("\x07\x9b\x7f\u202e\u2066\udcff")


@pytest.mark.parametrize("tty", [True, False])
def test_what_others_print_is_shown_too(tty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Screen() if tty else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    with shielded():
        print(HOSTILE)
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": HOSTILE}))
        sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, "file.py", 1, ""))
        Console(stderr=True, markup=False, width=20).print("help", style="bold")  # as typer prints it
        sys.stderr.write("\r 50%|##")
        sys.stderr.write("\x1b[A")
    said = stream.getvalue()
    plain = said.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\r 50%|##\x1b[A", "")
    assert ("\x1b[1m" in said) == tty
    assert not set(plain) & set("\x1b\r\x07\x9b\x7f\u202e\u2066\udcff")
    assert said.count(SHOWN.partition(" :")[0]) == 3


def test_no_encoding_ends_a_command() -> None:
    code = "from sparring.runtime import terminal as t\nwith t.shielded(): t.terminal().print('é ␛ \\udcff \\x1b')"
    environ = {"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "ascii:strict"}
    ended = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True)
    assert (ended.returncode, ended.stdout) == (0, b"\\xe9 \\u241b \\udcff \\u241b\n")


def test_only_the_terminal_module_prints() -> None:
    found = []
    for path in SRC.rglob("*.py"):
        name = path.relative_to(SRC).as_posix()
        if any(name.startswith(alone) for alone in ALONE):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in PRINTERS:
                found.append(f"{name}:{node.lineno}")
            if isinstance(called, ast.Attribute) and (
                called.attr in PRINTERS - {"print"}
                or (called.attr in ("write", "writelines") and getattr(called.value, "attr", "") in STREAMS)
            ):
                found.append(f"{name}:{node.lineno}")
    assert found == []


def test_visible_keeps_text() -> None:
    text = "Grüße\n\t日本語 👩‍👩‍👧 مرحبا — ␛"
    assert visible(text) == text
