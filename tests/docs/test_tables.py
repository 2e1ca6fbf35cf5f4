"""Figures of pages are written by scripts between markers; the scripts' small parts are right."""

from __future__ import annotations

import csv
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from conftest import write_jsonl
from sparring.oracles.mutual_information import MutualInformation
from sparring.oracles.oracle import Comparison

DOCS = Path(__file__).parents[2] / "docs"
BEGIN = re.compile(r"^<!-- ([\w-]+): written by (make_\w+\.py) -->$", re.M)
USERS = {script.name for script in DOCS.glob("make_*.py") if "write_section" in script.read_text()}
SECTIONS = [
    (page, *found)
    for page in sorted(DOCS.glob("**/*.md"))
    for found in BEGIN.findall(page.read_text())
    if found[1] in USERS
]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of docs/ by name."""
    monkeypatch.syspath_prepend(DOCS)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize(("page", "name", "source"), SECTIONS, ids=[f"{p.stem}-{n}" for p, n, _ in SECTIONS])
def test_a_written_section_has_a_script_an_end_and_content(page: Path, name: str, source: str):
    text = page.read_text()
    assert text.count(f"<!-- end of {name} -->") == 1
    inside = text.partition(f"<!-- {name}: written by {source} -->")[2].partition(f"<!-- end of {name} -->")[0]
    assert inside.strip()
    assert f'"{source}"' in (DOCS / source).read_text()
    assert source in text.replace(f"written by {source}", ""), f"{page.name} does not name the command of its {name}"


def test_a_section_is_replaced_and_the_rest_stays(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tables = script("tables")
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: written by s.py -->\nold\n<!-- end of x -->\nb\n")
    for _ in range(2):
        tables.write_section("page.md", "s.py", tables.table(["k", "v"], [["one", "1"]]), "x")
    inside = "| k | v |\n| --- | ---: |\n| one | 1 |"
    assert page.read_text() == f"a\n<!-- x: written by s.py -->\n\n{inside}\n\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="each once"):
        tables.write_section("page.md", "other.py", [], "x")


def test_ratings_become_verdicts_of_both_orders(script: Any):
    made = script("make_arena_hard").as_judgments(
        {
            "claude-1": dict(zip("abcde", (5, 5, 5, 5, 5), strict=True)),
            "m": dict(zip("abcde", (9, 6, 5, 4, 1), strict=True)),
        }
    )
    assert [judgment.verdicts for judgment in made] == [
        ("B>>A", "A>>B"),
        ("B>A", "A>B"),
        ("A=B", "A=B"),
        ("A>B", "B>A"),
        ("A>>B", "B>>A"),
    ]


def test_published_judgments_meet_their_published_scores(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "model_judgment").mkdir()
    row = {"judge": "gpt", "baseline": "gpt-4-0314", "category": "arena-hard-v0.1"}
    for model in ("known", "unknown"):
        games = [[{"score": "B>A"}, {"score": "A>B"}], [{"score": "A>>B"}, {"score": "A=B"}]]
        rows = [{**row, "uid": str(i), "model": model, "games": pair} for i, pair in enumerate(games)]
        write_jsonl(tmp_path / "model_judgment" / f"{model}.jsonl", rows)
    with (tmp_path / "leaderboard_20240731.csv").open("w") as stream:
        writer = csv.writer(stream)
        writer.writerows([["model", "score", "rating_q025", "rating_q975"], ["known", "41.6", "30", "50"]])
    script("make_arena_hard").published(tmp_path)
    printed = capsys.readouterr()
    line = printed.out.splitlines()[-1]  # won 1 + 1 + 1/2 of 1 + 1 + 3 + 1 games
    assert line.startswith("| known | 2 | 41.6 (30 to 50) | 41.67 (")
    assert line.endswith("| +0.07 |")
    assert "unknown: not on the leaderboard" in printed.err


def test_the_label_of_three_people_is_their_majority(script: Any):
    row = {"instruction": "Do", "input": "", "response1": "a", "response2": "b", "annotator2": "2", "annotator3": "2"}
    pair = script("make_oracles").panda_pair
    assert pair({**row, "annotator1": "1"}) == {"prompt": "Do", "response_1": "a", "response_2": "b", "label": 2}
    assert pair({**row, "input": "it", "annotator1": "1", "annotator3": 0})["label"] == 0
    assert pair({**row, "input": "it", "annotator1": "1", "annotator3": 0})["prompt"] == "Do\n\nit"


def test_information_per_token_needs_no_second_pass(script: Any, tiny_model: Path):
    summed = MutualInformation(str(tiny_model))
    asked = [Comparison("Say ant", "ant", "a bee"), Comparison("Say bee", "bee, bee and bee", "ant")]
    found = script("make_oracles").PerToken(summed).judge(asked)
    assert found == pytest.approx(MutualInformation(str(tiny_model), per_token=True).judge(asked), abs=1e-12)


class Longest:
    """Stands for the panel: the longer text wins by 0.2, and one voter sees the length, another its opposite."""

    weights: ClassVar = {"long": 0.5, "short": 0.5}

    def scores(self, pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
        lengths = np.array([len(text) for _, text in pairs], dtype=float)
        return {"long": lengths, "short": -lengths}

    def judge(self, asked: list[Comparison]) -> np.ndarray:
        return np.array([0.5 + 0.2 * np.sign(len(c.a) - len(c.b)) for c in asked])


def test_a_column_of_the_panel_s_table(script: Any):
    samples = {"p": ["a", "bb", "ccc"], "q": ["aa", "b", "cccc"]}
    lengths = {text: len(text) for texts in samples.values() for text in texts}
    strongest, lead, cyclic, with_tokens, largest = script("make_panel").facts(Longest(), samples, lengths)
    assert strongest == lead == "0.70 / 0.70 / 0.70"
    assert cyclic == "0 of 2"
    assert with_tokens == "1.00, -1.00"
    assert largest == "-1.00 (long, short)"
