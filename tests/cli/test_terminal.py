"""What people read: 80 columns hold every verb, no cell is cut short, and a pipe gets plain text."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from command import Ran, sparring
from sparring.cli import study
from sparring.cli.result import say, table, terminal
from sparring.evaluation.intervals import Interval

PLAIN = (
    (("recipe",), ("demo", "inpo-llama3-pairs")),
    (("algorithms",), ("inpo", "prompts and an oracle", "2407.00617")),
    (("algorithms", "inpo"), ("reference tau/eta, iterate 1 - tau/eta", "pair square")),
    (("algorithms", "--verbose"), ("pair square", "the data's pair, and each of its answers against an own one")),
    (("doctor",), ("no problems found", "versions", "GFLOP/s", "memory")),
    (("doctor", "--verbose"), ("no problems found", "pydantic", "pip install")),
    (("certify", "inpo", "--player", "exact"), ("5 holds, 0 refuted", "inpo_theorem_4_slope", "falls at least as 1/T")),
    (("certify", "inpo", "--player", "exact", "--verbose"), ("predicted", "measured", "2407.00617")),
    (("certify", "all", "--game", "G3", "--rounds", "1"), ("regularised", "1 rounds", "nash_md")),
)


def fits(text: str) -> None:
    """At most 80 columns, nothing cut short, no escape codes, no blanks at the end of a line."""
    lines = text.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert "…" not in text
    assert "\x1b" not in text
    assert [line for line in lines if line != line.rstrip()] == []
    assert not set(text) & set("│┃─━")


@pytest.mark.parametrize(("words", "shown"), PLAIN, ids=lambda value: " ".join(value[:2]))
def test_verbs_without_a_run(words: tuple[str, ...], shown: tuple[str, ...]) -> None:
    code, out, _ = sparring(*words, columns=80)
    assert code == 0
    fits(out)
    assert all(word in out for word in shown)


def test_verbs_on_a_run(finished: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other"):
        shutil.copytree(finished.out, tmp_path / name)
    shutil.copy(finished.recipe, "mine.yaml")
    expected: dict[tuple[object, ...], tuple[str, ...]] = {
        ("status", "one"): ("finished: inpo, 1 of 1 rounds", "6 training examples", "time,", "memory,", "2 steps"),
        ("status", "one", "--verbose"): ("logp_check", "distinct_trigrams"),
        ("samples", "one"): ("Say yak", "start", "final"),
        ("compare", "one", "other"): ("Which run gained more", "wins against start", "%", "time of", "points"),
        ("plan", "mine.yaml"): (
            "fits; expected",
            "at most",
            "memory, GB",
            "billion operations a second",
        ),
        ("plan", "mine.yaml", "--verbose"): ("KV cache", "gradients"),
    }
    for words, shown in expected.items():
        code, out, _ = sparring(*words, columns=80)
        assert code == 0
        fits(out)
        assert [word for word in shown if word not in out] == []
    ran = sparring("run", "mine.yaml", "--out", "one", "--set", "rounds=1", columns=80).out
    fits(ran[ran.index("run: ") :])
    assert "rule checks passed" in ran
    assert "The final policy" in ran


def test_left_out_items_are_always_visible(finished: Ran, tmp_path: Path) -> None:
    shutil.copytree(finished.out, tmp_path / "run")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    manifest["rounds/000/pair"]["facts"]["dropped_pairs"] = {"tie": 3}
    manifest["rounds/000/judge"]["facts"]["failed"] = 2
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    out = " ".join(sparring("status", tmp_path / "run", columns=80).out.split())
    assert "dropped pairs 3: tie" in out
    assert "failed 2" in out


def test_an_audit(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "aa" * (1 + i % 3), "rejected": "b"} for i in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    oracle = ("--oracle", "{name: function, path: 'oracle_fakes:more_vowels'}", "--out", tmp_path / "out")
    code, out, _ = sparring("oracle", "audit", tmp_path / "pairs.jsonl", *oracle, columns=80)
    assert code == 0
    figures = out[out.index("30 decided pairs") : out.rindex(str(tmp_path))]
    fits(figures)
    for word in ("chance is 50 %", "longer wins", "more_vowels", "100.0", "failed", "cycles,"):
        assert word in figures


def test_a_study(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    share = Interval(0.51, 0.29, 0.72)
    spread = {"mean": 0.4, "least": 0.2, "most": 0.6, "seeds": 2}
    judge = {"name": "panel", "seen_in_training": True, "win_rates": [0.2, 0.6], "failed": 1, "over_seeds": spread}
    method = {"kl_title": "KL on the samples (T = 0.7)", "tokens": spread, "finished_share": spread, "kl": None}
    method |= {"gap": spread, "seconds": spread, "judges": {"panel-v1(a;b)": judge}}
    task = {"task": "arc", "metric": "acc", "shots": 0, "documents": 2, "total": 9, "before": share, "after": share}
    task |= {"difference": share, "p": 0.5, "test": "sign flips", "method": "inpo", "seeds": 2}
    contest = {"a": "start", "b": "iterative-dpo", "preference": share, "by_seed": [0.4, 0.6], "prompts": 3}
    result: dict[str, Any] = {
        "seeds": [0, 1],
        "methods": [{**method, "name": name} for name in ("inpo", "iterative-dpo")],
        "contests": [contest],
        "judge": "panel-v1(a;b)",
        "failed": 0,
        "answered_by_one_side": 4,
        "stopped": [{"method": "inpo", "seed": 1, "reason": "the policy collapsed"}],
        "tasks": [task],
    }
    study.show(result, terminal())
    out = capsys.readouterr().out
    fits(out)
    for word in ("40.0%", "20.0% to 60.0%", "51", "29 to 72", "4 prompts had one side's", "arc (acc, 0 shots, 2 of 9)"):
        assert word in out
    assert "the policy collapsed" in out
    assert "do not compare with published ones" in out


# ---------------------------------------------------------------- the table itself


def printed(*renderables: Any, width: int) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, soft_wrap=True)
    for one in renderables:
        console.print(one)
    return stream.getvalue().splitlines()


def test_numbers_are_aligned_right_and_texts_wrap() -> None:
    made = table("", ("name", "time, s", "what"), [("a", "7", "some words to wrap"), ("b", "1,200", "[red]")])
    assert printed(made, width=80) == [
        "name  time, s  what",
        "a           7  some words to wrap",
        "b       1,200  [red]",
    ]
    narrow = printed(made, width=24)
    assert narrow[1:] == ["name      s  what", "a         7  some words", "             to wrap", "b     1,200  [red]"]


def test_no_text_is_cut_short() -> None:
    path = "/a/very/long/path/" + "x" * 90
    lines = printed(table("", ("name", "path"), [("run", path)]), width=80)
    assert max(map(len, lines)) <= 80
    assert "".join(line[6:] for line in lines[1:]) == path


def test_control_characters_of_a_model_are_shown_and_not_obeyed() -> None:
    assert printed(table("", ("", ""), [("start", "a\x1b[31mred\r\nb")]), width=80) == ["start  a␛[31mred␍", "       b"]


def test_a_pipe_of_no_width_keeps_a_row_in_a_line(finished: Ran) -> None:
    out = sparring("status", finished.out, "--verbose", columns=None).out
    assert len([line for line in out.splitlines() if "distinct_trigrams" in line and "kl_to_start" in line]) == 2
    assert "\x1b" not in out


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "styled"), [("1", False), ("", True)])
def test_colour_is_left_out_on_request(monkeypatch: pytest.MonkeyPatch, no_color: str, styled: bool) -> None:
    stream = Screen()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    screen = terminal()
    screen.print(table("title", ("name", "number"), [("a", "1")]))
    say(screen, "a sentence")
    assert ("\x1b" in stream.getvalue()) == styled
