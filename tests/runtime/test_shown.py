"""Results in a Python shell and in a notebook: in words, and with text from outside escaped."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

from sparring.runtime.shown import Shown, View


def view(result: dict[str, Any]) -> View:
    table = [("judge", "wins"), (result["judge"], "60.0%")]
    return View("A wins & B loses", table, ["page: <here>"], result.get("picture", ""))


def test_a_shell_shows_words_and_aligned_columns() -> None:
    shown = Shown({"judge": "rules\x1b[2J"}, view)
    assert repr(shown) == "A wins & B loses\njudge      wins\nrules␛[2J  60.0%\npage: <here>"


def test_a_notebook_gets_a_table_in_which_nothing_is_markup() -> None:
    assert Shown({"judge": "<script>x</script>"}, view)._repr_html_() == (
        "<p>A wins &amp; B loses</p>\n"
        "<table><tr><th>judge</th><th>wins</th></tr>"
        "<tr><td>&lt;script&gt;x&lt;/script&gt;</td><td>60.0%</td></tr></table>\n"
        "<p>page: &lt;here&gt;</p>"
    )


def test_a_picture_is_an_image_whose_styles_stay_inside() -> None:
    page = Shown({"judge": "x", "picture": "<svg><style>p {}</style></svg>"}, view)._repr_html_()
    assert "<style>" not in page
    assert 'src="data:image/svg+xml;base64,PHN2Zz4' in page


def test_in_all_else_it_is_the_dictionary() -> None:
    plain = {"judge": "x"}
    shown = Shown(plain, view)
    assert shown == plain == copy.deepcopy(shown) == pickle.loads(pickle.dumps(shown))
    assert json.dumps(shown) == json.dumps(plain)
