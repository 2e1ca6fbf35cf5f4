"""What a fit shows of its steps, and how its adapter names the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparring.rounds.fit import Shown, _rename_base


def test_steps_that_are_done_again_are_shown_once() -> None:
    bar: list[tuple[int, str]] = []
    rows: list[float] = []
    shown = Shown(lambda done, note="": bar.append((done, note)), lambda row: rows.append(row["step"]))

    def steps(kept: int, until: int) -> None:
        shown.begin()
        for step in range(1, until + 1):
            if step > kept:
                shown.report({"step": step})
            shown.advance(1, note="" if step <= kept else f"step {step}")

    steps(kept=0, until=4)  # then a rank is lost; the checkpoint is of step 2
    steps(kept=2, until=6)
    assert rows == [1, 2, 3, 4, 5, 6]
    assert bar == [(1, f"step {step}") for step in range(1, 7)]


def test_an_adapter_names_its_base_as_the_run_does(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text('{"base_model_name_or_path": "/cache/fleet/3f2a"}')
    _rename_base(tmp_path, Path("/cache/fleet/3f2a"), Path("models/mine"))
    assert file.read_text() == '{"base_model_name_or_path": "models/mine"}'
    monkeypatch.setattr(Path, "write_text", None)
    _rename_base(tmp_path, Path("models/mine"), Path("models/mine"))  # a fit of this process writes nothing twice
