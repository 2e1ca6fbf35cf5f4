"""Every message that docs/troubleshooting.md explains is one that the code can print."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import sparring

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
NOT_OURS = {"killed", "torch.OutOfMemoryError"}
"""from the operating system and from torch"""


def printed() -> set[str]:
    """Literal parts of every string in the source, adjacent ones joined as Python does."""
    found = set()
    for file in Path(sparring.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value.strip())
    return {part for part in found if 12 <= len(part) <= 200}


def test_messages_are_real() -> None:
    parts = printed()
    rows = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    messages = {message for row in rows for message in re.findall(r"`(.+?)`", row)} - NOT_OURS
    assert len(messages) > 20
    unknown = [m for m in messages if not any(p in m or m in p or _piece(m) in p for p in parts)]
    assert unknown == []


def _piece(message: str) -> str:
    """The longest part between the values that stand in for others."""
    return max(re.split(r"\.\.\.|'[^']*'|\d+|runs/\S*", message), key=len).strip()
