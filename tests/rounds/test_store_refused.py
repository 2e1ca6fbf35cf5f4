"""What a first start leaves in its folder: nothing where it is refused, its data where it only failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparring.rounds.store import Store
from sparring.runtime.errors import OracleError


def start(out: Path, error: Exception) -> list[str]:
    """The files that are left by a first start that ends with `error` after it prepared the data."""
    out.mkdir()
    (out / "run.lock").touch()
    (out / "data").mkdir()
    (out / "data/mine.csv").write_text("a user's")
    with pytest.raises(type(error)):
        prepared(out, error)
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def prepared(out: Path, error: Exception) -> None:
    with Store(out).locked() as store, store.first_start():
        for name in ("recipe.yaml", "data/train.parquet", "data/held_out.partial/00000.parquet"):
            store.path(name).write_text("made")
        raise error


@pytest.mark.parametrize("error", [ValueError("refused"), OracleError("no answer")])
def test_a_refused_start_removes_its_own_files_by_name(error: Exception, tmp_path: Path) -> None:
    """It had removed the whole folder data/."""
    assert start(tmp_path / "run", error) == ["data/mine.csv"]


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("out of memory")])
def test_a_start_that_failed_keeps_its_data(error: Exception, tmp_path: Path) -> None:
    """The tokenised shards had gone with it, though the same command could go on."""
    made = ["data/held_out.partial/00000.parquet", "data/mine.csv", "data/train.parquet", "recipe.yaml", "run.lock"]
    assert start(tmp_path / "run", error) == made
