"""One writer at a time: the second is refused, a killed one is forgotten, and lines of several do not mix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sparring.runtime.files import hidden_beside, write_json
from sparring.runtime.locks import locked_folder, locked_path

HOLD = """
import sys
from pathlib import Path
from sparring.runtime import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""
APPEND = """
import sys
from pathlib import Path
from sparring.runtime.lines import append_lines
for _ in range(200):
    append_lines(Path(sys.argv[1]), (sys.argv[2] * 50 + "\\n") * 300)
"""


def started(code: str, *words: object) -> subprocess.Popen[bytes]:
    command, path = [sys.executable, "-c", code, *map(str, words)], {"PYTHONPATH": ":".join(sys.path)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path)


@contextmanager
def held_elsewhere(kind: str, target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the target until the block ends."""
    with started(HOLD, kind, target) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.communicate()


def test_a_second_process_is_refused_and_a_killed_one_forgotten(tmp_path: Path) -> None:
    for kind, lock in (("locked_folder", locked_folder), ("locked_path", locked_path)):
        target = tmp_path / kind
        with held_elsewhere(kind, target) as other:
            with pytest.raises(ValueError, match=rf"{kind} is being worked on by another process.*--out"), lock(target):
                pass
            other.kill()
            other.wait()
            with lock(target), lock(target):  # again in this process: one writer
                pass
        with lock(target):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["locked_folder"]


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    for process in [started(APPEND, file, letter) for letter in "abc"]:
        process.communicate()
    lines = file.read_text().splitlines()
    assert len(lines) == 3 * 200 * 300
    assert set(lines) == {letter * 50 for letter in "abc"}


def test_names_that_are_made_of_a_long_name_are_no_longer(tmp_path: Path) -> None:
    for name in ("n" * 250, "ß" * 120):
        assert len(hidden_beside(tmp_path / name, "partial").name.encode()) < 60
        write_json(tmp_path / name, {})
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
