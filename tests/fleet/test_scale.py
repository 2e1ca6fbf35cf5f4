"""The simulation of many devices (`docs/make_scale.py`) counts what it is to count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparring.fleet.join import has_ray

pytestmark = pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'")


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs"))
    import make_scale

    return make_scale


def test_devices_are_busy_where_the_controller_is_quick(scale: Any) -> None:
    found = scale.hand_out(devices=8, shards=800, median=5.0, call=1e-3, look=1e-6)
    assert 0.94 < found["efficiency"] < 1.0  # the end alone is lost


def test_a_slow_controller_bounds_them(scale: Any) -> None:
    """With a second of the controller for a shard, eight devices wait for it."""
    found = scale.hand_out(devices=8, shards=400, median=5.0, call=1.0, look=0.0)
    mean = 5.0 * 2.718281828 ** (scale.SPREAD**2 / 2)
    assert found["efficiency"] == pytest.approx(mean / 8, rel=0.1)


def test_hand_out_holds_no_more_for_more_shards(scale: Any) -> None:
    few, many = (scale.hand_out(64, count, 1.0, 1e-3, 0.0)["grown_bytes"] for count in (5_000, 50_000))
    assert many - few < 45_000 * 20  # a list of the shards would be some 60 bytes each


def test_the_sample_stage_runs_with_its_files(scale: Any) -> None:
    found = scale.sample_stage(4)
    assert found["shards"] == 4
    assert found["file_bytes"] > 4 * scale.BATCH * scale.TOKENS // 4
