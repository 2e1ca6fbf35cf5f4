"""Results that show themselves: in words in a Python shell, as a table in a notebook; in all else plain dictionaries.

Each kind of result says itself how it reads (`report/shown.py` and others); text from outside is escaped here. Leaves
out: pages and the terminal's tables.

    Shown(result, lambda result: View(f"wins {result['win_rate']:.1%}"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from sparring.runtime.terminal import visible


@dataclass(frozen=True, slots=True)
class View:
    """A result in words: a sentence, a table whose first row names the columns, and notes."""

    sentence: str
    table: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    picture: str = ""
    """a drawing (SVG), which a notebook shows in place of the table"""

    @property
    def text(self) -> str:
        """All but the picture, with the columns aligned."""
        widths = [max(map(len, column)) for column in zip(*self.table, strict=True)]
        rows = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in self.table]
        return "\n".join(map(visible, [self.sentence, *rows, *self.notes]))

    @property
    def html(self) -> str:
        """A part of a page, without scripts and styles."""
        parts = [f"<p>{escape(self.sentence)}</p>"]
        if self.picture:
            from base64 import b64encode

            # As an image: the styles of a drawing in the page itself would reach the whole notebook.
            drawn = b64encode(self.picture.encode()).decode()
            parts.append(f'<img alt="{escape(self.sentence)}" src="data:image/svg+xml;base64,{drawn}">')
        elif self.table:
            rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self.table]
            rows[0] = rows[0].replace("td>", "th>")
            parts.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
        return "\n".join([*parts, *(f"<p>{escape(note)}</p>" for note in self.notes)])


class Shown(dict[str, Any]):
    """A dictionary that is shown by `view`, a function of it."""

    def __init__(self, result: Any, view: Callable[[Any], View]) -> None:
        super().__init__(result)
        self._view = view

    def __repr__(self) -> str:
        """In words."""
        return self._view(self).text

    def _repr_html_(self) -> str:
        """For notebooks."""
        return self._view(self).html
