"""Where nothing can be written, the path is named; a file that a bug misses stays a bug."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparring.runtime.files import beside, check_output, make_folder, write_text


def test_a_path_that_takes_no_file_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file/page.html", tmp_path / "folder", Path("/proc/page.html")):
        for act in (check_output, lambda path: write_text(path, "text")):
            with pytest.raises(ValueError, match="Give another --out"):
                act(path)
    with pytest.raises(ValueError, match=r"file/o cannot be made: Not a directory\. Give another --out"):
        make_folder(tmp_path / "file/o")
    check_output(tmp_path / "new/page.html")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder", "new"]


def test_a_missing_input_is_not_told_as_an_output(tmp_path: Path):
    with pytest.raises(FileNotFoundError), beside(tmp_path / "page.html"):
        (tmp_path / "shard").read_text()
