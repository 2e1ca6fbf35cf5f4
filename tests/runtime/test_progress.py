"""Progress in a log: a library's bars, which draw over themselves, come out as lines."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
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


def lines_of(monkeypatch: pytest.MonkeyPatch, left: progress.Left, steps: list[tuple[float, int]]) -> list[str]:
    """The lines of a task of 8 units whose steps come after so many seconds, each."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    said: list[str] = []
    display = progress.Progress(Console(file=io.StringIO())).at("round 2/3", left)
    monkeypatch.setattr(display, "say", said.append)
    with display.task("sample", 8) as advance:
        for seconds, done in steps:
            clock[0] += seconds
            advance(done, "token 3 of at most 9")
    return said


def test_lines_say_what_is_left_of_the_task_and_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said = lines_of(monkeypatch, lambda: 600.0, [(30.0, 2), (5.0, 0), (85.0, 6)])
    assert said == [
        "sample  2/8  30 s gone, about 2 min left (run: about 10 min left)  token 3 of at most 9",
        "sample  8/8  120 s (run: about 8 min left)  token 3 of at most 9",
    ]


def test_a_task_that_takes_longer_than_the_run_was_to_take_promises_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "run: about 0 s left" stood there for eleven minutes, before the judge's part."""
    said = lines_of(monkeypatch, lambda: 40.0, [(30.0, 2), (30.0, 2)])
    assert said[0].startswith("sample  2/8  30 s gone, about 2 min left (run: about 2 min left)")
    assert said[1].startswith("sample  4/8  60 s gone, about 60 s left  token")


def test_what_an_earlier_process_did_says_nothing_of_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = lines_of(monkeypatch, lambda: None, [(0.0, 4), (40.0, 2)])
    assert line.startswith("sample  6/8  40 s gone, about 40 s left  token 3")


def test_a_step_that_completes_nothing_shows_its_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_of(monkeypatch, lambda: None, [(25.0, 0)]) == ["sample  0/8  25 s  token 3 of at most 9"]


def test_a_bar_shows_the_times_in_words() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress.Progress(screen).at("round 2/3", lambda: 600.0).task("sample", 2) as advance:
        advance(2)
    assert "0 s (run: about 10 min left)" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_recorded_task_keeps_its_state_in_a_file_and_stops_for_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "progress.json"
    path.write_text('{"doing": "what a killed process did"}')
    recorder = progress.Recorder(path)
    recorder.forget_earlier()
    assert not path.exists()
    recorded = progress.Progress(quiet=True).recorded(recorder).at("round 1/2")
    with recorded.task("sample", 8) as advance:
        assert json.loads(path.read_text())["done"] == 0
        advance(3)
        assert json.loads(path.read_text())["done"] == 0  # a second has not gone
        monkeypatch.setattr(progress, "RECORD_EVERY", 0.0)
        advance(2, note="token 4")
        row = json.loads(path.read_text())
        assert (row["doing"], row["done"], row["total"], row["note"]) == ("round 1/2  sample", 5, 8, "token 4")
        assert row["before"] == 5  # at once, so from an earlier process
        recorder.forget_earlier()
        assert path.exists()
        monkeypatch.setattr(progress, "AT_ONCE", 0.0)
        advance(1)
        assert json.loads(path.read_text())["before"] == 5
        tmp_path.rename(tmp_path.with_name("away"))
        advance(2)
    assert not path.exists()
