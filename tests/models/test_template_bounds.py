"""Templates that never end, or whose text has no end, are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from sparring.models import template as template_module
from sparring.models.chat import PLAIN, Chat

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}"
ENDS = "{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (f"{LOOP}{ENDS}", "more than 0.2 s of computing time"),
        (f"{LOOP}abc{ENDS}", "more than 0.2 s of computing time"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 'x' * 10**12 }}", "more memory"),
        ("{{ 'x'.center(10**12) }}", "more memory"),
        (
            "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
            "more memory|0.2 s",
        ),
        ("{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
        ("{% for i in range(1000) %}{{ 'a' * 1000 }}{% endfor %}", "it makes 1,000,[0-9]+ characters"),
    ],
)
def test_a_template_without_an_end_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, says: str
) -> None:
    monkeypatch.setattr(template_module, "SECONDS", 0.2)
    monkeypatch.setattr(template_module, "MEMORY", 2**28)
    monkeypatch.setattr(template_module, "LONGEST", 1_000_000)
    path = tmp_path / "chat.jinja"
    path.write_text(before + PLAIN)
    with pytest.raises(ValueError, match=rf"model\.chat_template: .*({says})"):
        Chat(tokenizer, str(path))
