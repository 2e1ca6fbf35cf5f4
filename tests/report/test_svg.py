"""Pictures that are files of their own have the colours of the pages' style sheet, on light and on dark pages."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from sparring.certificates import plot
from sparring.certificates.panels import Curve, LogPanel
from sparring.report import picture, rules_picture
from sparring.report.html import own_files
from sparring.report.svg import document, style_of, tokens

STYLES = {"": "", "plot": plot.style(), "picture": picture.STYLE, "rules": rules_picture.STYLE}


def test_tokens_are_all_colours_of_the_style_sheet():
    sheet = own_files("page.css")
    assert len(tokens()) == sheet.count("light-dark(") > 10
    assert tokens()["accent"] == ("#1c6e8c", "#6cc0dc")


@pytest.mark.parametrize("name", STYLES)
def test_every_colour_is_a_token_for_light_and_for_dark(name):
    rules = style_of(STYLES[name], 13)
    light, dark = rules.split("@media (prefers-color-scheme: dark) {")
    assert "var(" not in rules
    for scheme, part in enumerate((light, dark)):
        colours = re.findall(r"#[0-9a-f]+", part)
        assert colours
        assert set(colours) <= {pair[scheme] for pair in tokens().values()}
    assert len(re.findall(r"#[0-9a-f]+", light)) == len(re.findall(r"#[0-9a-f]+", dark))
    assert not re.search(r"#[0-9a-f]{3}", STYLES[name])
    assert "font" not in dark, "only colours are said again"


def test_a_later_rule_of_the_caller_wins_in_the_dark_too():
    style = ".grid { stroke: var(--muted); stroke-width: 2 }"
    _, dark = style_of(style, 13).split("@media")
    assert dark.index(f"stroke: {tokens()['rule'][1]}") < dark.rindex(f".grid {{ stroke: {tokens()['muted'][1]} }}")


def test_an_unknown_token_is_no_colour():
    with pytest.raises(KeyError, match="acent"):
        document(10, 10, "", [], ".line { stroke: var(--acent) }")


def test_the_lines_of_a_plot_differ_in_both_schemes():
    curves = [Curve(str(i), [1, 2], [0.1, 0.2]) for i in range(len(plot.HUES) + 1)]
    drawn = plot.svg([LogPanel("Gap", "round", "gap", curves)])
    ElementTree.fromstring(drawn)
    for scheme in (0, 1):
        assert len({tokens()[hue][scheme] for hue in plot.HUES}) == len(plot.HUES)
    assert 'class="line c0 dash"' in drawn
