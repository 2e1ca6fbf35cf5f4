"""The evaluation of the how-to page works as it is printed: one file and one entry."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sparring.cli import evaluate
from sparring.runtime.imports import import_attribute

PAGE = Path(__file__).parents[2] / "docs/how-to/own-evaluation.md"


def test_the_page_s_evaluation_is_one_file_and_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text()
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (entry,) = re.findall(r"^\+ +\"(\w+)\": \"(\w+:\w+)\",$", page, re.MULTILINE)
    assert f' "overlap": "{evaluate.VERBS["overlap"]}",' in page
    (tmp_path / "within.py").write_text(source)
    monkeypatch.setattr(evaluate, "__path__", [*evaluate.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{evaluate.__name__}.within", raising=False)
    app = typer.Typer()
    app.command(entry[0])(import_attribute(f"{evaluate.__name__}.{entry[1]}", entry[0]))
    rows = [{"instruction": str(i), "output": "a " * (1 + 200 * (i < 10)), "generator": "mine"} for i in range(40)]
    (tmp_path / "answers.json").write_text(json.dumps(rows))
    ran = CliRunner().invoke(app, [str(tmp_path / "answers.json"), "--json"])
    assert ran.exit_code == 0
    result = json.loads(ran.stdout)
    assert (result["model"], result["answers"], result["share"]["value"]) == ("mine", 40, 0.75)
    assert result["share"]["low"] < 0.75 < result["share"]["high"]
    assert "75.0" in CliRunner().invoke(app, [str(tmp_path / "answers.json")]).stdout
