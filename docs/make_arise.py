"""Searches games of known equilibrium with each design, and writes the table of docs/how-to/black-box-games.md.

python docs/make_arise.py                # needs scikit-learn (the extra `lab`): two minutes of one core
python docs/make_arise.py --seeds 3 --show
"""

from __future__ import annotations

import argparse

import numpy as np
from tables import table, write_section

from sparring.games.arise import DESIGNS, search
from sparring.games.black_box import BlackBoxGame, contest, cournot

PAGE, SCRIPT = "how-to/black-box-games.md", "make_arise.py"
GAMES = (cournot(31, noise=0.01), contest(13, noise=0.01))
EVALUATIONS = (10, 20, 40)
HEAD = ("game", "evaluations", *(f"{design}: mean (worst)" for design in DESIGNS), "all profiles: mean")


def row(game: BlackBoxGame, evaluations: int, seeds: int) -> list[str]:
    """The true exploitability of what each design answers."""
    gap, cells = game.exploitability(), []
    for design in DESIGNS:
        ends = [gap[search(game, evaluations, design, seed).profile] for seed in range(seeds)]
        cells.append(f"{np.mean(ends):.4f} ({max(ends):.4f})")
    return [f"{game.name}, {gap.size} profiles", str(evaluations), *cells, f"{gap.mean():.3f}"]


def main() -> None:
    """Search, and write or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--show", action="store_true", help="print the table, and leave the page as it is")
    arguments = parser.parse_args()
    rows = []
    for game in GAMES:
        for evaluations in EVALUATIONS:
            rows.append(row(game, evaluations, arguments.seeds))
            print(" | ".join(rows[-1]), flush=True)
    if not arguments.show:
        write_section(PAGE, SCRIPT, table(HEAD, rows))


if __name__ == "__main__":
    main()
