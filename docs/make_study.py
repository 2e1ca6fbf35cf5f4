"""Writes the tables of docs/studies/NAME.md from a finished study.

The folder is what `sparring study studies/NAME.yaml` left (--out, or runs/NAME). The words around the tables are
written by hand and say what holds: read them again when the numbers change. Leaves out: making the runs.

    python docs/make_study.py runs/family
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sparring.evaluation.intervals import from_json
from sparring.studies.numbers import markdown

BEGIN, END = "<!-- tables: written by make_study.py -->", "<!-- end of tables -->"


def main(folder: Path, page: Path) -> None:
    """Replace what is between the marks."""
    tables = markdown(from_json(json.loads((folder / "study.json").read_text(encoding="utf-8"))))
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} lacks the marks {BEGIN} and {END}.")
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / f"studies/{Path(sys.argv[1]).name}.md")
