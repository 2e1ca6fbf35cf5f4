"""The sentence on the oracle's preference between answers."""

from __future__ import annotations

import io

from rich.console import Console

from sparring.cli.samples import show


def test_a_low_preference_is_not_said_to_be_for_the_final_policy() -> None:
    """It had said that the oracle prefers the final policy's answers by 30%."""
    screen = Console(file=io.StringIO(), width=80)
    show({"prompt": "Say ant", "preference": 0.3, "start": ["ant"], "final": ["an ant"]}, screen, first=True)
    assert isinstance(screen.file, io.StringIO)
    assert "the oracle's preference for the final policy's answers: 30%" in screen.file.getvalue()
