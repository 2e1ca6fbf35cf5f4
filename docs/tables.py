"""Tables that scripts write into pages, between two markers that name the script.

    <!-- table: written by make_alpaca_eval.py -->
    <!-- end of table -->

Leaves out: everything around them, which is written by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parent


def write_section(page: str, script: str, lines: Sequence[str], name: str = "table") -> None:
    """Replace what stands between the markers of `name`.

    Raises:
        ValueError: the page does not hold the markers once.
    """
    path = DOCS / page
    begin, end = f"<!-- {name}: written by {script} -->", f"<!-- end of {name} -->"
    text = path.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{path}: it needs the lines {begin!r} and {end!r}, each once.")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{after}", encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table; the columns after the first `left` are aligned to the right."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
