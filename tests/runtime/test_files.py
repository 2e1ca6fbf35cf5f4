"""Half a surrogate pair, as a cut emoji leaves, stops no file from being written; nothing half-written is left."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from sparring.endpoints.replies import ReplyFile
from sparring.runtime.files import (
    beside,
    cache_folder,
    folder_beside,
    read_json,
    read_table,
    write_json,
    write_json_lines,
    write_table,
    write_text,
)

BROKEN = 'naïve \ud83d 😀 \\ud83d "\\'


def test_json_with_a_lone_surrogate_reads_back_the_same(tmp_path: Path) -> None:
    value = {"reply": BROKEN, "\udc00": [BROKEN, None, 0.5]}
    write_json(tmp_path / "summary.json", value)
    assert read_json(tmp_path / "summary.json") == value
    write_json_lines(tmp_path / "rows.jsonl", [value, {"a": 1}])
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [value, {"a": 1}]


def test_json_of_whole_characters_has_no_escapes(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", {"text": "naïve 😀"})
    assert (tmp_path / "summary.json").read_text(encoding="utf-8") == '{\n  "text": "naïve 😀"\n}\n'


def test_a_stored_reply_with_a_lone_surrogate_reads_back_the_same(tmp_path: Path) -> None:
    row = {"key": "k", "text": BROKEN, "cut": False, "tokens": [], "model": "m", "asker": "a"}
    ReplyFile(tmp_path / "replies.jsonl").keep({**row, "tokens_in": 1, "tokens_out": 1})
    reply = ReplyFile(tmp_path / "replies.jsonl").get("k")
    assert reply is not None
    assert reply.text == BROKEN


def test_text_and_tables_get_a_replacement_character(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", BROKEN)
    whole = BROKEN.replace("\ud83d", "\ufffd")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == whole
    turn = pa.struct({"content": pa.string()})
    schema = pa.schema({"text": pa.string(), "messages": pa.list_(turn), "preference": pa.float64()})
    row = {"text": BROKEN, "messages": [{"content": BROKEN}], "preference": None}
    write_table(tmp_path / "rows.parquet", [row], schema)
    assert read_table(tmp_path / "rows.parquet") == [{**row, "text": whole, "messages": [{"content": whole}]}]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(*names: str) -> None:
        with folder_beside(tmp_path / "policy") as partial:
            partial.mkdir()
            for name in names:
                (partial / name).touch()

    with pytest.raises(FileNotFoundError):
        fill("weights", "no/such/folder")
    assert list(tmp_path.iterdir()) == []
    fill("weights")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["policy", "policy/weights"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_file_without_room_is_named_and_not_half_written(tmp_path: Path, number: int) -> None:
    def no_room(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match="summary") as raised, beside(tmp_path / "summary.json") as partial:
        no_room(partial)
    assert (raised.value.errno, raised.value.filename) == (number, str(tmp_path / "summary.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home_can_name_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SPARRING_CACHE")
    with pytest.raises(ValueError, match="set SPARRING_CACHE"):
        cache_folder()
