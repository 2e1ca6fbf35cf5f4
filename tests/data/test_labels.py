"""Rated rows, lists with scores and margins: which pair they make, and with which probability."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import write_jsonl
from sparring.data.examples import Example, stream_examples
from sparring.recipe.datasets import ColumnsConfig, DatasetConfig

PAIR = {"prompt": "Say ant", "chosen": "ant!", "rejected": "no"}
BOTH = ("chosen", "rejected")
PERCENT = "the preference is no probability from 0 to 1: divide percentages by 100"
ALONE = "only one rated answer to its prompt (its rows must stand together, with one check, group and tools)"


def read(
    path: Path, rows: list[dict[str, Any]], soft: bool = True, **fields: Any
) -> tuple[list[Example], Counter[str]]:
    config, dropped = DatasetConfig(path=str(write_jsonl(path / "rows.jsonl", rows)), **fields), Counter[str]()
    return list(stream_examples(config, fields.pop("roles", BOTH), dropped, preferences=soft)), dropped


@pytest.mark.parametrize(
    ("columns", "scale", "probability"),
    [
        ({"preference": 0.8}, 1.0, 0.8),
        ({"preference": "0.25", "margin": 9}, 1.0, 0.25),
        ({"margin": 2.0}, 1.0, 1 / (1 + math.exp(-2))),
        ({"margin": -3}, 0.5, 1 / (1 + math.exp(1.5))),
        ({"score_chosen": 8.5, "score_rejected": 7.5}, 2.0, 1 / (1 + math.exp(-2))),
        ({"margin": 1e6}, 1.0, 1.0),
    ],
)
def test_a_pair_has_the_probability_that_its_row_says(
    columns: dict[str, Any], scale: float, probability: float, tmp_path: Path
) -> None:
    (example,), dropped = read(tmp_path, [{**PAIR, **columns}], margin_scale=scale)
    assert example.preference == pytest.approx(probability)
    assert not dropped


def test_what_cannot_be_read_is_counted_and_without_soft_labels_not_read(tmp_path: Path) -> None:
    rows = [{**PAIR, "chosen": f"{i}", "margin": m} for i, m in enumerate([1.0, None, float("nan"), 2.0])]
    examples, dropped = read(tmp_path, rows)
    assert [e.responses["chosen"] for e in examples] == ["0", "3"]
    assert dropped == {"the margin of an answer is no number (first: row 2, 'margin' = None)": 2}
    examples, dropped = read(tmp_path, rows, soft=False)
    assert [e.preference for e in examples] == [None] * 4
    assert not dropped
    _, dropped = read(tmp_path, [{**PAIR, "preference": 0.5}, {**PAIR, "chosen": "b", "preference": 80}])
    assert dropped == {f"{PERCENT} (first: row 2, 'preference' = 80)": 1}


def test_pairs_that_do_not_say_how_sure_they_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"does not say how sure.*'score_chosen'.*columns: \{preference: .*soft_labels: fa"
    ):
        read(tmp_path, [PAIR])


def test_the_best_and_the_worst_of_a_list_with_scores(tmp_path: Path) -> None:
    answers = [{"response": text, "overall": score} for text, score in (("b", 3), ("a", 8.0), ("c", 1))]
    rows = [{"prompt": "Say ant", "completions": answers}, {"prompt": "x", "completions": answers[:1] * 2}]
    columns = ColumnsConfig(ranked="completions", completion="response", score="overall")
    (example,), dropped = read(tmp_path, rows, columns=columns, margin_scale=0.5)
    assert example.responses == {"chosen": "a", "rejected": "c"}
    assert example.preference == pytest.approx(1 / (1 + math.exp(-3.5)))
    assert dropped == {"all answers have one score": 1}
    ranks = {"prompt": "Say ant", "answers": [{"answer": "a", "rank": 2}, {"answer": "b", "rank": 1}]}
    (example,), _ = read(tmp_path, [ranks], soft=False)
    assert example.responses == {"chosen": "b", "rejected": "a"}
    with pytest.raises(ValueError, match="1 x the answers have ranks and no scores, which soft_labels needs"):
        read(tmp_path, [ranks])


def test_rated_rows_of_a_prompt_make_its_pair(tmp_path: Path) -> None:
    rated = [
        ("ant", "a", 1),
        ("ant", "b", 3),
        ("ant", "c", 2),
        ("bee", "d", 5),
        ("ant", "e", 9),
        ("cow", "f", math.nan),
    ]
    rows = [{"prompt": p, "completion": text, "score": score} for p, text, score in [*rated, ("cow", "g", 1)]]
    (example,), dropped = read(tmp_path, rows)
    assert example.responses == {"chosen": "b", "rejected": "a"}
    assert example.preference == pytest.approx(1 / (1 + math.exp(-2)))
    assert dropped == {
        ALONE: 3,
        "the score of an answer is no number (first: row 6, 'score' = nan)": 1,
    }


RATED = [{"prompt": "Say ant", "completion": text, "score": score} for text, score in (("a", 1), ("b", 3))]


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"prompt": "Say ant", "response": "c", "rating": 2}, r"'completion': no such column, .* has 'prompt', 'resp"),
        ({"prompt": "Say ant", "completion": "c"}, "'score': no such column, but a number in the rows before it"),
        ({"prompt": "Say ant", "completion": "c", "score": "2"}, "'score': text or messages, but a number in the rows"),
        ({"completion": "c", "score": 2}, "'prompt': no such column, but text or messages in the rows before it"),
    ],
)
def test_rated_rows_of_another_form_are_refused(later: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"'.*rows.jsonl', row 3, field {message}"):
        read(tmp_path, [*RATED, later])


def test_a_rated_row_without_answer_or_score_is_left_out_alone(tmp_path: Path) -> None:
    bad = [{**RATED[0], "score": None}, {**RATED[0], "completion": None}]
    (example,), dropped = read(tmp_path, [RATED[0], *bad, bad[0], RATED[1]])
    assert example.responses == {"chosen": "b", "rejected": "a"}
    assert dropped == {
        "the score of an answer is no number (first: row 2, 'score' = None)": 2,
        "an answer is null (first: row 3, 'completion' = None)": 1,
    }
    fractions = [{**row, "score": f"{row['score']}/5"} for row in RATED]
    with pytest.raises(ValueError, match=r"2 x the score of an answer is no number \(first: row 1, 'score' = '1/5'\)"):
        read(tmp_path, fractions)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]),
        ("check", {"rule": "max_words", "count": 3}),
        ("group", 2),
        ("system", "Be brief."),
        ("images", ["a.png"]),
    ],
)
def test_answers_to_a_prompt_with_something_else_beside_it_make_no_pair(
    column: str, value: Any, tmp_path: Path
) -> None:
    first = [{**row, column: None} for row in RATED]
    other = [{**row, "score": 9 + row["score"], column: value} for row in RATED]
    examples, dropped = read(tmp_path, [*first, *other[:1]])
    assert [e.responses for e in examples] == [{"chosen": "b", "rejected": "a"}]
    assert dropped == {"the row has 'images' beside its prompt" if column == "images" else ALONE: 1}


def test_tools_of_rated_rows_stand_before_their_own_pair(tmp_path: Path) -> None:
    tools = [[{"type": "function", "function": {"name": name}}] for name in ("look", "find")]
    examples, _ = read(tmp_path, [{**row, "tools": one} for one in tools for row in RATED])
    assert ["look" in e.messages[0]["content"] for e in examples] == [True, False]
    assert ["find" in e.messages[0]["content"] for e in examples] == [False, True]


def test_a_score_is_a_label_from_a_threshold_on(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}", "completion": "a", "score": score} for i, score in enumerate([1, 3, 4.5, None])]
    path = write_jsonl(tmp_path / "r.jsonl", rows)
    roles, dropped = ("desirable", "undesirable"), Counter[str]()
    examples = list(stream_examples(DatasetConfig(path=str(path), threshold=3), roles, dropped))
    assert [list(e.responses) for e in examples] == [["undesirable"], ["desirable"], ["desirable"]]
    assert dropped == {"the score of an answer is no number (first: row 4, 'score' = None)": 1}
    with pytest.raises(ValueError, match=r"has scores \('score'\) and no labels \('label'\)\. Give threshold"):
        list(stream_examples(DatasetConfig(path=str(path)), roles, dropped))
    labelled = write_jsonl(tmp_path / "l.jsonl", [{**rows[0], "label": True}])
    with pytest.raises(ValueError, match=r"threshold = 3, but .* has labels"):
        list(stream_examples(DatasetConfig(path=str(labelled), threshold=3), roles, dropped))


def test_a_hub_set_is_streamed_and_an_interruption_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library streams a folder as it streams the hub; here the folder's name hides that it is one."""
    import datasets

    from sparring.data import rows as rows_module

    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [{"prompt": f"{i}"} for i in range(50)])
    asked: dict[str, Any] = {}
    load_dataset = datasets.load_dataset

    def load(path: str, name: str | None, **options: Any) -> Any:
        asked.update(options)
        return load_dataset(str(folder), name, **options)

    monkeypatch.setattr(datasets, "load_dataset", load)
    config = DatasetConfig(path="org/set", stream=True, limit=3)
    assert [row["prompt"] for row in rows_module.read_rows(config)] == ["0", "1", "2"]
    assert asked["streaming"] is True

    def broken(*_: Any, **__: Any) -> Any:
        yield {"prompt": "0"}
        raise ConnectionError("gone")

    monkeypatch.setattr(datasets, "load_dataset", broken)
    with pytest.raises(ValueError, match=r"'org/set' stopped arriving after 1 rows \(.*gone\)"):
        rows_module.read_rows(DatasetConfig(path="org/set", stream=True))
    with pytest.raises(ValueError, match=r"stream = true with .*, which is on this machine"):
        rows_module.read_rows(DatasetConfig(path=str(folder), stream=True))
