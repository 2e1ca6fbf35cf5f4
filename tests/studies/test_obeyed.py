"""What code checked of a study: seeds averaged by prompt first, groups beside all, points by the rounds' minutes."""

from __future__ import annotations

from typing import Any

import pytest

from sparring.studies.obeyed import by_group, cells, obeyed


def summary(final: list[list[bool]], minutes: float) -> Any:
    samples = [
        {"check": {"rule": "one_word"}, "group": group, "start_passes": [False, False], "final_passes": passes}
        for group, passes in zip(("near", "far"), final, strict=True)
    ]
    stage = {"seconds": 60 * minutes, "facts": {}}
    policy = {"round": 1, "tokens_mean": 9.0, "finished_share": 1.0, "kl_to_start": 0.0, "kl_standard_error": 0.0}
    return {
        "samples": [*samples, {"check": None, "group": "near", "start_passes": None, "final_passes": None}],
        "checks": {"by_group": {"near": {}, "far": {}}},
        "rounds": [{"round": 0, "stages": {"fit": stage}}],
        "policies": [policy, policy],
        "lock": {"hardware": {}},
        "algorithm": {"title": "INPO"},
        "recipe": {},
        "warnings": [],
    }


def test_seeds_are_averaged_by_prompt_and_minutes_are_those_of_the_rounds() -> None:
    runs = {
        ("inpo", 0): summary([[True, True], [False, True]], 2.0),
        ("inpo", 1): summary([[True, False], [False, False]], 4.0),
    }
    rows = obeyed(runs)
    assert [(row["group"], row["prompts"]) for row in rows] == [("all", 2), ("near", 1), ("far", 1)]
    total = rows[0]
    assert (total["start"].value, total["final"].value, total["gain"].value) == (0.0, 0.5, 0.5)
    assert total["by_seed"] == [0.75, 0.25]
    assert total["points_per_minute"] == pytest.approx(50 / 3)
    assert {group: one[0]["gain"].value for group, one in by_group(rows).items()} == {
        "all": 0.5,
        "near": 0.75,
        "far": 0.25,
    }
    assert cells(total)[:5] == ["inpo", "2", "0.0", "50.0", "+50.0"]
    assert cells(total)[6:] == ["+25 to +75", "16.7"]


def test_nothing_without_rules() -> None:
    run = {**summary([[True], [True]], 1.0), "checks": None}
    assert obeyed({("inpo", 0): run}) == []
