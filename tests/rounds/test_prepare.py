"""The data stage: rows pass through in shards, in little memory, and a killed stage keeps the shards it has."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import load_examples, write_jsonl
from sparring.models.chat import Chat
from sparring.models.weights import load_tokenizer
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import ModelConfig
from sparring.rounds import prepare
from sparring.rounds.policies import Policies
from sparring.rounds.prepare import Preparation
from sparring.rounds.run import round_indices, run
from sparring.rounds.store import Made, Store
from sparring.runtime.files import read_column, read_json, read_rows_at, read_table, write_json, write_tables
from sparring.runtime.layout import LOCK, TRAIN
from sparring.runtime.progress import Progress

Plain = dict[str, Any]
Make = Callable[..., tuple[Store, Made]]
QUIET = Progress(quiet=True)


@pytest.fixture
def make(tiny_recipe: Plain, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """Run the stage on a set of so many rows, in shards of 16."""
    monkeypatch.setattr(prepare, "SHARD", 16)
    chat = Chat(load_tokenizer(tiny_model))

    def run(rows: int, folder: str = "run", inputs: Plain | None = None) -> tuple[Store, Made]:
        path = tmp_path / f"{rows}.jsonl"
        text = "owl " * 10
        if not path.exists():
            lines = (json.dumps({"prompt": f"{i} {text}", "chosen": f"a {text}", "rejected": "b"}) for i in range(rows))
            path.write_text("\n".join(lines))
        data = {**tiny_recipe["data"], "train": {"path": str(path)}}
        recipe = parse_recipe({**tiny_recipe, "data": data, "algorithm": {"name": "dpo"}})
        store = Store(tmp_path / folder)
        return store, Preparation(store, recipe, chat, inputs or {}, 256, None, QUIET).run()

    return run


def test_rows_take_little_memory_however_many_they_are(make: Make) -> None:
    make(50, "warm")
    peaks = []
    for rows in (200, 1400):
        tracemalloc.start()
        _, made = make(rows, str(rows))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made.counts["train"] == rows
    # A row is 60 tokens or 2 kB of Python numbers; what stays of it are two hashes, to find duplicates and overlap.
    # Measured alone 285 bytes a row, beside other tests up to 310: a fifth of a row's numbers is the bound.
    assert (peaks[1] - peaks[0]) / 1200 < 400


def test_a_killed_stage_tokenises_only_what_is_missing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, made = make(100, "whole")
    count, response_ids = 0, Chat.response_ids

    def kill(self: Chat, text: str, prompt: Any) -> list[int]:
        nonlocal count
        count += 1
        if count == 2 * 40:
            raise KeyboardInterrupt
        return response_ids(self, text, prompt)

    monkeypatch.setattr(Chat, "response_ids", kill)
    with pytest.raises(KeyboardInterrupt):
        make(100)
    count = 1000
    store, again = make(100)
    assert count - 1000 == 2 * (100 - 32)
    assert again == made
    assert (store.root / TRAIN).read_bytes() == (whole.root / TRAIN).read_bytes()
    assert not list(store.root.rglob("*partial*"))


def test_shards_of_other_inputs_are_not_used(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make(40, "whole", {"tokenizer": "a"})
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(40, inputs={"tokenizer": "a"})
    tokenised: list[str] = []
    monkeypatch.setattr(Chat, "response_ids", lambda self, text, _: tokenised.append(text) or [1])
    store, _ = make(40, inputs={"tokenizer": "b"})
    assert len(tokenised) == 80
    assert {tuple(r["token_ids"]) for row in read_table(store.root / TRAIN) for r in row["responses"]} == {(1,)}


def test_identity_names_what_tokens_depend_on(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    file = tmp_path / "t.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    one = Chat(tokenizer, str(file)).identity
    tokenizer(["a", "abc"], padding=True, truncation=True, max_length=2)
    assert Chat(tokenizer, str(file)).identity == one
    file.write_text("{% for m in messages %}{{ m['content'] }} {% endfor %}")
    tokenizer_with_more = load_tokenizer(tiny_model)
    tokenizer_with_more.add_tokens(["zebra"])
    others = [Chat(tokenizer, str(file)), Chat(tokenizer, "plain"), Chat(tokenizer), Chat(tokenizer_with_more)]
    assert len({one, *(chat.identity for chat in others)}) == 5


def test_files_are_read_as_they_are_needed(tmp_path: Path) -> None:
    from sparring.recipe.sections import DatasetConfig

    path = write_jsonl(tmp_path / "r.jsonl", [{"prompt": f"{i}"} for i in range(5)])
    with path.open("a") as stream:
        stream.write("broken\n")
    assert len(load_examples(DatasetConfig(path=str(path), limit=5), ())[0]) == 5
    with pytest.raises(ValueError, match="line 6: not valid JSON"):
        load_examples(DatasetConfig(path=str(path)), ())


def test_a_round_reads_its_own_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = pa.schema({"example": pa.string()})
    tables = (pa.table({"example": [f"{10 * group + i}" for i in range(10)]}, schema) for group in range(5))
    write_tables(tmp_path / "t.parquet", tables, schema)
    groups: list[int] = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, g: groups.append(g) or read(self, g))
    rows = read_rows_at(tmp_path / "t.parquet", [41, 3, 49, 3])
    assert [row["example"] for row in rows] == ["41", "3", "49", "3"]
    assert groups == [0, 4]
    assert read_column(tmp_path / "t.parquet", "example") == [f"{i}" for i in range(50)]


def test_rounds_go_through_all_rows_before_any_comes_again() -> None:
    names = [f"{i}" for i in range(10)]
    slices = [round_indices(names, 4, t, seed=1) for t in range(5)]
    assert sorted(i for some in slices for i in some) == sorted([*range(10)] * 2)
    assert slices[0] != round_indices(names, 4, 0, seed=2)
    assert list(round_indices(names, None, 3, seed=1)) == list(round_indices(names, 10, 3, seed=1)) == [*range(10)]


DATED = "{{ strftime_now('%Y-%m-%d') }} {% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
KNOWN = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}user: {{ m.content }}\n{% endif %}{% endfor %}"


def own_policies(model: Path, root: Path, template: str, **fields: Any) -> Policies:
    file = model.parent / f"{root.name}.jinja"
    file.write_text(template)
    return Policies(Store(root), ModelConfig(path=str(model), chat_template=str(file), **fields))


def asked(policies: Policies) -> str:
    return policies.chat.tokenizer.decode(policies.chat.prompt_ids([{"role": "user", "content": "Hi"}]))


def test_a_run_keeps_the_day_on_which_it_began(tiny_model: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    before = date.today()
    assert asked(own_policies(tiny_model, root, DATED)) in {f"{day} user: Hi\n" for day in (before, date.today())}
    assert not root.exists()
    write_json(root / LOCK, {"date": "2024-02-29", "engine": {"vllm": "1"}})
    policies = own_policies(tiny_model, root, DATED)
    assert asked(policies) == "2024-02-29 user: Hi\n"
    policies.keep_day()
    assert read_json(root / LOCK) == {"date": "2024-02-29", "engine": {"vllm": "1"}}
    chosen = own_policies(tiny_model, root, DATED, date="2001-02-03")
    chosen.keep_day()
    assert asked(chosen) == "2001-02-03 user: Hi\n"
    assert read_json(root / LOCK) == {"date": "2001-02-03", "engine": {"vllm": "1"}}


def test_a_run_of_an_earlier_version_keeps_the_day_of_its_data(tiny_model: Path, tmp_path: Path) -> None:
    root = tmp_path / "old"
    write_json(
        root / "manifest.json",
        {"data": {"finished": "2025-11-30T23:59:59", "inputs": {}, "outputs": {}, "facts": {}, "seconds": 1.0}},
    )
    write_json(root / LOCK, {"versions": {}, "seed": 0})
    policies = own_policies(tiny_model, root, DATED)
    assert asked(policies) == "2025-11-30 user: Hi\n"
    policies.keep_day()
    assert read_json(root / LOCK) == {"versions": {}, "seed": 0, "date": "2025-11-30"}


def test_what_a_template_leaves_out_is_counted_and_the_day_is_said(
    tiny_recipe: Plain, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talks = [[("developer", "In capitals."), ("user", "Say ant")], [("human", "Say bee")], [("user", "Say cat")]]
    rows = []
    for talk in talks:
        turns = [{"role": role, "content": content} for role, content in talk]
        answers = {name: [*turns, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
        rows.append(answers)
    train = {"path": str(write_jsonl(tmp_path / "t.jsonl", rows))}
    data = {**tiny_recipe["data"], "train": train}
    recipe = parse_recipe({**tiny_recipe, "data": data, "algorithm": {"name": "dpo"}})
    policies = own_policies(tiny_model, tmp_path / "run", DATED)
    prepare.prepare(policies, recipe, Progress())
    said = capsys.readouterr()
    assert f"note  the template writes the date into prompts: {policies.day} for all of this run" in said.out + said.err
    policies = own_policies(tiny_model, tmp_path / "other", KNOWN)
    prepare.prepare(policies, recipe, Progress())
    dropped = {f"the template leaves out the {role} message": 1 for role in ("developer", "human")}
    assert policies.store.manifest["data"]["facts"]["dropped"] == {"train": dropped, "held_out": {}}
    (row,) = read_table(policies.store.root / TRAIN)
    assert row["prompt"] == "Say cat"


CALLING = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def test_tools_and_calls_are_trained_on_sampled_and_judged(tiny_recipe: dict[str, Any], tmp_path: Path):
    (tmp_path / "calling.jinja").write_text(CALLING)
    tools = [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}}}]
    call = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Rome"}}}
    called = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    rows = [
        {"prompt": f"Rain {n}?", "tools": tools, "chosen": called, "rejected": "No.", "gold": called} for n in range(4)
    ]
    train = write_jsonl(tmp_path / "tools.jsonl", [*rows, {**rows[0], "prompt": "x", "tools": [{"type": "function"}]}])
    held = write_jsonl(tmp_path / "asked.jsonl", [{"prompt": "Snow?", "tools": tools}, {"prompt": "Hail?"}])
    recipe = {
        **tiny_recipe,
        "model": {**tiny_recipe["model"], "chat_template": str(tmp_path / "calling.jinja")},
        "data": {"train": {"path": str(train)}, "held_out": {"path": str(held)}},
        "algorithm": {"name": "dpo", "source": "pairs"},
        "rounds": 1,
    }
    run(recipe, tmp_path / "run", Progress(quiet=True))
    first, *_ = read_table(tmp_path / "run/data/train.parquet")
    assert first["messages"][0]["role"] == "tools"
    chosen = next(response for response in first["responses"] if response["role"] == "chosen")
    assert chosen["text"] == '<call>{"name": "rain", "arguments": {"city": "Rome"}}</call>'
    assert Store(tmp_path / "run").manifest["data"]["facts"]["dropped"]["train"] == {"a tool has no name": 1}
    assert len(read_table(tmp_path / "run/evaluation/samples-1.parquet")) >= 2


Label = tuple[str, Any]
"""a prompt and the label of an answer to it"""


@pytest.fixture
def label(tiny_recipe: Plain, tiny_model: Path, tmp_path: Path) -> Callable[..., Made]:
    """Run the stage for KTO on answers with such labels."""

    def run(labels: list[Label], **fields: Any) -> Made:
        rows = [{"prompt": p, "completion": f"owl {i}", "label": label} for i, (p, label) in enumerate(labels)]
        data = {**tiny_recipe["data"], "train": {"path": str(write_jsonl(tmp_path / "labelled.jsonl", rows))}}
        recipe = parse_recipe({**tiny_recipe, "data": data, "algorithm": {"name": "kto", **fields}})
        chat = Chat(load_tokenizer(tiny_model))
        return Preparation(Store(tmp_path / "kto"), recipe, chat, {}, 256, None, QUIET).run()

    return run


def test_both_sides_of_labelled_answers_are_counted(label: Callable[..., Made]) -> None:
    made = label([("owl", True), ("owl", False), ("bat", False)])
    assert made.counts["sides"] == {"desirable": 1, "undesirable": 2}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [1, -1, 1],
            r"^data\.train: no answer is undesirable, 2 are desirable \(column 'label': true .*; dropped: 1 x the",
        ),
        ([False] * 3, r"no answer is desirable, 3 are undesirable \(column 'label': .*false or 0\)\. One side alone"),
    ],
)
def test_labels_of_one_side_are_refused(labels: list[Any], message: str, label: Callable[..., Made]) -> None:
    with pytest.raises(ValueError, match=message):
        label([(f"owl {i}", one) for i, one in enumerate(labels)])


def test_answers_to_one_prompt_estimate_no_kl(label: Callable[..., Made]) -> None:
    answers = [("owl", bool(i % 2)) for i in range(6)]
    with pytest.raises(ValueError, match=r"all 6 answers are to one prompt, .*set algorithm\.reference_point: zero"):
        label(answers)
    assert label(answers, reference_point="zero").counts["sides"] == {"desirable": 3, "undesirable": 3}
