"""The picture of rules that code checked: its rows, intervals and names."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from sparring.evaluation.intervals import Interval
from sparring.report.rules_picture import LEFT, LENGTH, MOST_RULES, rules_svg
from sparring.report.summary import CheckRates, Rates

NS = "{http://www.w3.org/2000/svg}"


def rates(start: float, final: float, prompts: int = 9) -> Rates:
    gain = final - start
    return {
        "start": Interval(start, start - 0.1, start + 0.1),
        "final": Interval(final, final - 0.2, final + 0.2),
        "difference": Interval(gain, gain - 0.05, gain + 0.05),
        "prompts": prompts,
    }


def drawn(checks: CheckRates) -> ElementTree.Element:
    return ElementTree.fromstring(rules_svg("mine <b> & co", checks))


def found(root: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if one.tag.removeprefix(NS) == tag]


def test_rows_are_all_prompts_groups_and_kinds() -> None:
    kinds = {f"kind:rule_{number}": rates(0.2, 0.4) for number in range(MOST_RULES + 2)}
    kinds["kind:rare"] = rates(0.0, 1.0, prompts=7)
    checks: CheckRates = {**rates(0.3, 0.6), "by_group": {"held <out>": rates(0.1, 0.5)}, "by_rule": kinds}
    root = drawn(checks)
    words = [one.text for one in found(root, "text")]
    assert words[0] == "mine <b> & co: instructions obeyed, checked by code"
    assert "rare" not in words
    assert words.index("all prompts") < words.index("held <out>") < words.index("rule 0")
    assert [word for word in words if word and word.startswith("rule ")] == [f"rule {n}" for n in range(MOST_RULES)]
    assert words[words.index("all prompts") + 1 :][:2] == ["30 → 60\u202f%", "+30 (+25 to +35)"]
    assert root.attrib["aria-label"].endswith(
        "all prompts 30\u202f% before, 60\u202f% after; held <out> 10\u202f% before, 50\u202f% after"
    )


def test_intervals_lie_on_the_axis() -> None:
    root = drawn({**rates(0.3, 0.6), "by_rule": {"only": rates(0.3, 0.6)}})
    bars = [one for one in found(root, "line") if one.attrib["class"].startswith("bar")]
    ends = [(float(bar.attrib["x1"]), float(bar.attrib["x2"])) for bar in bars]
    expected = [tuple(LEFT + LENGTH * share for share in shares) for shares in ((0.2, 0.4), (0.4, 0.8))]
    assert ends == [pytest.approx(pair, abs=0.1) for pair in expected]
    assert "only" not in [one.text for one in found(root, "text")]
