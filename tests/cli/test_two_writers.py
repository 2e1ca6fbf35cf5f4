"""Every verb that writes refuses a target on which another process works: one line, exit 2, nothing written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command import Ran, sparring
from sparring.runtime.files import write_json


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[None]:
    """A file's or folder's lock as another process holds it: by an opening of its own."""
    handle = os.open(lock, os.O_RDONLY | (0 if lock.is_dir() else os.O_CREAT))
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield
    os.close(handle)


def test_verbs_refuse_what_another_process_writes(finished: Ran, tmp_path: Path) -> None:
    answers = [{"instruction": f"q {i}", "output": f"a {i}", "generator": "one"} for i in range(3)]
    matches = [{"left": "a", "right": "b", "winner": winner} for winner in ("left", "right")] * 5
    pairs = [{"prompt": f"p{i}", "chosen": "good", "rejected": "b"} for i in range(60)]
    for name, rows in (("a", answers), ("b", answers), ("matches", matches), ("pairs", pairs)):
        write_json(tmp_path / f"{name}.json", rows)
    a, b, matches_file, pairs_file = (tmp_path / f"{name}.json" for name in ("a", "b", "matches", "pairs"))
    judge = ("--oracle", "{name: function, path: 'oracle_fakes:more_vowels'}")
    study = tmp_path / "study.yaml"
    study.write_text(f"base: {finished.recipe}\nmethods: {{one: {{}}}}\nseeds: [0]\n")
    files: list[tuple[tuple[object, ...], str]] = [
        (("export", finished.out), "--out"),
        (("compare", finished.out), "--out"),
        (("certify", "inpo", "--rounds", 1), "--json"),
        (("certify", "inpo", "--rounds", 1), "--plot"),
        (("bench", "sample"), "--json"),
    ]
    folders: list[tuple[object, ...]] = [
        ("evaluate", "ratings", matches_file),
        ("evaluate", "head-to-head", a, b, *judge),
        ("evaluate", "exploitability", a, "--attacker", b, *judge),
        ("evaluate", "overlap", a, b),
        ("oracle", "audit", pairs_file, *judge),
        ("study", study),
    ]
    out = tmp_path / "out"
    out.mkdir()
    cases = [(words, option, tmp_path / "file.svg", tmp_path / ".file.svg.lock") for words, option in files]
    for words, option, target, lock in [*cases, *((words, "--out", out, out) for words in folders)]:
        with held_elsewhere(lock):
            code, printed, err = sparring(*words, option, target)
        refusal = f"error: {target} is being worked on by another process. Wait for it, or give another --out."
        assert (code, printed, err.splitlines()[-1]) == (2, "", refusal)
        assert not any(target.iterdir()) if target.is_dir() else not target.exists()
