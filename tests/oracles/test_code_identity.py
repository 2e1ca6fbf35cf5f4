"""What a function does decides its identity: wherever it is written, and in every process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

from sparring.oracles.code_identity import code_identity
from sparring.oracles.function import FunctionOracle

JUDGE = """
import math, re
from collections import Counter
WORDS = {"because": 1, "so": 2}
SIGN = 1
MEMORY = {}
LIST = {"a", "b", "c"}
PATTERN = re.compile("x+")
calls = 0
class Scale:
    power = 1
    def __init__(self): self.factor, self.count = 2.0, 0
    def __call__(self, x):
        self.count += 1
        return x * self.factor ** self.power
SCALE = Scale()
def score(text, weight=1.0):
    return weight * sum(WORDS.get(w, 0) for w in text.split()) + len(PATTERN.findall(text)) + ("a" in {"x", "y", "zz"})
def cached(f):
    import functools
    @functools.wraps(f)
    def inner(prompt, a, b):
        key = (prompt, a, b)
        if key not in MEMORY: MEMORY[key] = f(prompt, a, b)
        return MEMORY[key]
    return inner
@cached
def judge(prompt, a, b):
    global calls
    calls += 1
    return 1 / (1 + math.exp(-SIGN * SCALE(score(a) - score(b))))
"""
CHANGES = [
    ("SIGN = 1", "SIGN = -1"),
    ('"so": 2', '"so": -2'),
    ("weight=1.0", "weight=-1.0"),
    ("weight * sum", "weight - sum"),
    ("factor, self.count = 2.0", "factor, self.count = 3.0"),
    ("power = 1", "power = 3"),
    ("x * self.factor", "x - self.factor"),
    ("score(a) - score(b)", "score(b) - score(a)"),
    ('"x+"', '"y+"'),
    ('"zz"', '"z"'),
    ("= f(prompt, a, b)", "= f(prompt, b, a)"),
]


def made(source: str, name: str = "judge") -> Any:
    """A function of a namespace that no file holds."""
    namespace: dict[str, Any] = {}
    exec(compile(source, "<cell>", "exec"), namespace)
    return namespace[name]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_change_in_anything_reached_makes_another_identity(old: str, new: str) -> None:
    """Functions whose source cannot be shown all had one identity: opposite judges trained one run."""
    assert old in JUDGE
    assert code_identity(made(JUDGE)) != code_identity(made(JUDGE.replace(old, new)))


def test_comments_lines_and_what_is_not_reached_change_nothing() -> None:
    other = "# a comment\n\nUNUSED = 3\n" + JUDGE.replace("calls = 0", "calls = 0  # counted\ndef other(): return SIGN")
    assert code_identity(made(JUDGE)) == code_identity(made(other))


def test_counters_and_caches_of_the_code_itself_change_nothing() -> None:
    judge = made(JUDGE)
    before = code_identity(judge)
    assert 0 <= judge("p", "because so", "x") <= 1
    assert judge.__globals__["calls"] == 1
    assert judge.__globals__["MEMORY"]
    assert code_identity(judge) == before


def test_a_helper_of_another_cell_is_followed() -> None:
    namespace: dict[str, Any] = {}
    for cell in ("def score(t): return len(t)", "def judge(p, a, b): return float(score(a) > score(b))"):
        exec(compile(cell, "<cell>", "exec"), namespace)
    before = code_identity(namespace["judge"])
    exec(compile("def score(t): return -len(t)", "<cell>", "exec"), namespace)
    assert code_identity(namespace["judge"]) != before


FORMS = [
    ("def f(k):\n return lambda p, a, b: k\njudge = f(0.2)", "0.2", "0.8"),
    ("class J:\n @staticmethod\n def s(t): return 1\n def f(self, p, a, b): return self.s(a)\njudge = J().f", "1", "0"),
    ("class B:\n def s(self): return 1\nclass J(B):\n def __call__(self, *_): return self.s()\njudge = J()", "1", "0"),
    ("from functools import partial\ndef f(k, p, a, b): return k\njudge = partial(f, 0.2)", "0.2", "0.8"),
    ("def e(n): return n < 1 or o(n)\ndef o(n): return n > 0 and e(n - 1)\ndef judge(*_): return e(2)", "> 0", "> 1"),
    ("import numpy as np\nW = np.array([1.0, 2.0])\ndef judge(p, a, b): return float(W @ W)", "2.0", "-2.0"),
    ("from functools import lru_cache\n@lru_cache\ndef s(t): return 1\ndef judge(p, a, b): return s(a)", "1", "0"),
    ("import math\ndef judge(p, a, b): return math.sin(1)", "sin", "cos"),
    ("def judge(p, a, b): return 1", "return 1", "return True"),
    ("from dataclasses import dataclass\n@dataclass\nclass C:\n k: int = 1\ndef judge(*_): return C().k", "1", "2"),
    ("class C:\n @property\n def k(self): return 1\ndef judge(p, a, b): return C().k", "1", "2"),
    ("def judge(p, a, b):\n from math import sin as f\n return f(1)", "import sin", "import cos"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "old", "new"), FORMS)
def test_every_form_of_function(source: str, old: str, new: str) -> None:
    one = code_identity(made(source))
    assert one == code_identity(made(source))
    assert one != code_identity(made(source.replace(old, new)))


def in_process(code: str, folder: Path, seed: int) -> str:
    source = "import sys; from sparring.oracles.function import FunctionOracle\n" + code
    env = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    done = subprocess.run([sys.executable, "-"], input=source, env=env, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_process_gives_the_same_identity_and_helpers_in_modules_count(tmp_path: Path) -> None:
    """A judge from standard input had the hash of an empty source; helpers in other modules had none."""
    helper = tmp_path / "helper_of_judge.py"
    helper.write_text("LIMITS = {'a', 'b', 'c', 'd'}\ndef score(t):\n    return len(set(t) & LIMITS)\n")
    (tmp_path / "judge_module.py").write_text(
        "import helper_of_judge\ndef judge(p, a, b):\n    return float(helper_of_judge.score(a) > 1)\n"
    )
    stdin = f"{JUDGE}\nprint(FunctionOracle('__main__:judge').identity, FunctionOracle('judge_module:judge').identity)"
    first = in_process(stdin, tmp_path, 0)
    assert first == in_process(stdin, tmp_path, 1)
    helper.write_text(helper.read_text().replace("return len", "return -len"))
    main, module = in_process(stdin, tmp_path, 2).split()
    assert main == first.split()[0]
    assert module != first.split()[1]


def test_a_value_that_cannot_be_identified_is_refused_unless_a_file_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import io\nlog = io.StringIO()\ndef judge(p, a, b): return float(len(log.getvalue()) < 9)\n"
    module = types.ModuleType("cell_of_judge")
    exec(compile(source, "<cell>", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "cell_of_judge", module)
    with pytest.raises(ValueError, match=r"oracle\.path: judge uses log, a _io\.StringIO, which cannot be identified"):
        FunctionOracle("cell_of_judge:judge")
    monkeypatch.syspath_prepend(tmp_path)
    identities = set()
    for number, text in enumerate((source, source.replace("StringIO()", "StringIO('x')"), source)):
        (tmp_path / f"file_of_judge{number}.py").write_text(text)
        oracle = FunctionOracle(f"file_of_judge{number}:judge")
        identities.add(oracle.identity.split("code=")[1])
    assert len(identities) == 2


def test_the_identity_of_earlier_versions_is_known_where_the_source_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = FunctionOracle("oracle_fakes:more_vowels")
    assert shown.former_identity is not None
    assert "source=" in shown.former_identity
    module = types.ModuleType("cell_of_judge")
    exec(compile(textwrap.dedent("def judge(p, a, b): return 0.5"), "<cell>", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "cell_of_judge", module)
    assert FunctionOracle("cell_of_judge:judge").former_identity is None
