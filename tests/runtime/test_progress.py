"""Progress in a log: a library's bars, which draw over themselves, come out as lines."""

from __future__ import annotations

import sys

import pytest
from tqdm import tqdm

from sparring.runtime import progress


@pytest.mark.parametrize(("every", "lines"), [(0.0, 7), (1000.0, 1)])
def test_a_librarys_bar_becomes_lines(
    every: float, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", every)
    with progress.plain_lines():
        for _ in tqdm(range(5), desc="asking", mininterval=0):
            pass
        print("done", 5, file=sys.stderr)
        for _ in tqdm(range(2), desc="gone", leave=False, mininterval=1000):
            pass
        sys.stderr.write("first\r\nsecond\r")
        sys.stderr.write("\x1b[A\x1b[A")
        sys.stderr.write("A")
        print("\nafter", file=sys.stderr)
    said = capsys.readouterr().err
    assert "first\r\nsecond\rA\nafter" in said
    assert "\x1b" not in said
    assert "\r" not in said.partition("first")[0]
    bars = [line for line in said.splitlines() if line.startswith("asking")]
    assert len(bars) == lines  # tqdm draws the last step twice
    assert "5/5" in bars[-1]
    assert "done 5" in said.splitlines()


def test_a_terminal_gets_the_bar_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    before = sys.stderr
    with progress.plain_lines():
        assert sys.stderr is before
