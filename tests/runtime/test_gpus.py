"""What is special to GPUs has one place, so that a reader, and another maker's device, find it there."""

from __future__ import annotations

import re
from pathlib import Path

import sparring

SOURCE = Path(sparring.__file__).parent
PEERS = SOURCE / "bench/peers"
"""scripts of other libraries' users, which are timed beside ours"""


def test_only_the_runtime_speaks_of_cuda() -> None:
    files = [path for path in SOURCE.rglob("*.py") if not path.is_relative_to(PEERS)]
    uses = {path.relative_to(SOURCE).parts[0]: 0 for path in files}
    for path in files:
        uses[path.relative_to(SOURCE).parts[0]] += len(re.findall(r"torch\.cuda\.", path.read_text(encoding="utf-8")))
    assert uses.pop("runtime") > 10  # it looks for the right words
    assert {folder: count for folder, count in uses.items() if count} == {}
