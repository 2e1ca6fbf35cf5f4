"""Simulates ratings after chosen matches, and writes their table in docs/evaluation/choosing.md.

    python docs/make_choosing_ratings.py                       # players of known strengths: 5 minutes of one core
    python docs/make_choosing_ratings.py --arena-bench scores.jsonl.gz
    python docs/make_choosing_ratings.py --repeats 20 --show

Each draw has two tables of matches: a round robin of ROUNDS, and one of a share of its matches, of which one round is
a round robin and the others are chosen BATCH at a time by `next_matches` from the results so far. Where a table has no
finite rating, both are left out, and counted. Of Arena-Hard's first scores the truth is the rating on all prompts, and
no pair meets twice on one. Leaves out: Elo, judges that prefer in circles.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import combinations, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
from make_choosing import Array, arena_scores
from scipy.special import expit
from tables import table, write_section

from sparring.evaluation.next_matches import next_matches
from sparring.evaluation.ratings import CENTRE, SCALE, Matches, Unbounded, bradley_terry, make_matches, rate

PAGE, SCRIPT, SECTION = "evaluation/choosing.md", "make_choosing_ratings.py", "ratings"
ROUNDS, BATCH, RESAMPLES = 10, 20, 300
Pair = tuple[int, int]
Played = tuple[list[Pair], list[float], list[str] | None]
"""pairs of players, the share that the first won, and prompts where they have names"""


class Field(NamedTuple):
    """Players of known ratings, and one way to play a match."""

    ratings: Array
    play: Callable[[Pair, str | None, np.random.Generator], float]
    prompts: Sequence[str] | None = None


def spaced(points: float, players: int = 8) -> Field:
    """Bradley-Terry players so many points apart."""
    ratings = CENTRE + points * (np.arange(players) - (players - 1) / 2)

    def play(pair: Pair, prompt: str | None, rng: np.random.Generator) -> float:
        return float(rng.random() < expit((ratings[pair[0]] - ratings[pair[1]]) / SCALE))

    return Field(ratings, play)


def arena_bench(path: Path) -> Field:
    """Arena-Hard's ten models on its prompts: the higher score wins."""
    scores = arena_scores(path)
    prompts = [str(row) for row in range(len(scores))]

    def play(pair: Pair, prompt: str | None, rng: np.random.Generator) -> float:
        assert prompt is not None
        return float(np.sign(scores[int(prompt), pair[0]] - scores[int(prompt), pair[1]]) + 1) / 2

    everything = [(pair, prompt) for pair in combinations(range(scores.shape[1]), 2) for prompt in prompts]
    results = [play(pair, prompt, np.random.default_rng(0)) for pair, prompt in everything]
    pairs, asked = map(list, zip(*everything, strict=True))
    return Field(CENTRE + SCALE * bradley_terry(_matches((pairs, results, asked))), play, prompts)


def _matches(played: Played) -> Matches:
    pairs, results, prompts = played
    return make_matches([(f"{i:02}", f"{j:02}") for i, j in pairs], results, prompts=prompts)


def round_robin(field: Field, rounds: int, rng: np.random.Generator) -> Played:
    """Every pair so often, on prompts of its own."""
    pairs = [pair for pair in combinations(range(len(field.ratings)), 2) for _ in range(rounds)]
    prompts = None
    if field.prompts is not None:
        asked = [rng.choice(field.prompts, rounds, replace=False).tolist() for _ in pairs[::rounds]]
        prompts = [prompt for some in asked for prompt in some]
    results = [field.play(pair, prompt, rng) for pair, prompt in zip(pairs, prompts or repeat(None), strict=False)]
    return pairs, results, prompts


def chosen(field: Field, count: int, rng: np.random.Generator) -> Played:
    """One round robin, then what `next_matches` names."""
    pairs, results, prompts = round_robin(field, 1, rng)
    seed = int(rng.integers(2**31))
    while (left := count - len(pairs)) > 0:
        so_far = _matches((pairs, results, prompts))
        for one in next_matches(so_far, min(BATCH, left), seed, field.prompts):
            pairs.append((int(one.left), int(one.right)))
            results.append(field.play(pairs[-1], one.prompt, rng))
            if prompts is not None:
                assert one.prompt is not None
                prompts.append(one.prompt)
    return pairs, results, prompts


def measured(field: Field, played: Played, seed: int) -> tuple[Array, Array, Array]:
    """Of each player: width of its interval, whether that holds the truth, and the estimate less the truth."""
    rows = sorted(rate(_matches(played), resamples=RESAMPLES, seed=seed).rows, key=lambda row: row.name)
    found = np.array([(row.low, row.high, row.rating) for row in rows], dtype=np.float64).T
    return found[1] - found[0], (found[0] <= field.ratings) & (field.ratings <= found[1]), found[2] - field.ratings


def row(name: str, field: Field, share: float, repeats: int) -> list[str]:
    """A field's name, and what both designs gave."""
    rng, found, without = np.random.default_rng(0), [], 0
    robin = ROUNDS * len(field.ratings) * (len(field.ratings) - 1) // 2
    while len(found) < repeats:
        try:
            seed = int(rng.integers(2**31))
            tables = round_robin(field, ROUNDS, rng), chosen(field, round(share * robin), rng)
            found.append([measured(field, played, seed) for played in tables])
        except Unbounded:
            without += 1
    widths, covered, off = np.moveaxis(np.array(found, dtype=float), 2, 0)  # repeats x 2 designs x players
    (robin_covers, chosen_cover), wider = covered.mean((0, 2)), (widths[:, 1] / widths[:, 0]).mean()
    best, worst = int(field.ratings.argmax()), int(field.ratings.argmin())
    stretched = (off[:, :, best] - off[:, :, worst]).mean(0)
    cells = [f"{share:.0%}", f"{wider:.2f}", f"{share * wider**2:.0%}"]
    cells += [f"{100 * one:.1f}" for one in (robin_covers, chosen_cover, covered[:, 1].mean(0).min())]
    return [name, *cells, *(f"{one:+.0f}" for one in stretched), f"{100 * without / (repeats + without):.0f}"]


HEAD = (
    "players",
    "matches, of the round robin's",
    "width, of the round robin's",
    "matches for the same width",
    "round robin covers, %",
    "chosen matches cover, %",
    "the least of any player, %",
    "round robin: best less worst, estimate less truth",
    "chosen: the same",
    "left out: no finite rating, %",
)


def main() -> None:
    """Simulate, and write or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.6)
    parser.add_argument("--points", type=float, nargs="*", default=[100])
    parser.add_argument("--arena-bench", type=Path)
    parser.add_argument("--show", action="store_true", help="print the table, and leave the page as it is")
    arguments = parser.parse_args()
    fields = {f"eight, {points:g} points between neighbours": spaced(points) for points in arguments.points}
    if arguments.arena_bench:
        fields["ten of Arena-Hard's first scores"] = arena_bench(arguments.arena_bench)
    rows = []
    for name, field in fields.items():
        rows.append(row(name, field, arguments.share, arguments.repeats))
        print(" | ".join(rows[-1]), flush=True)
    if not arguments.show:
        write_section(PAGE, SCRIPT, table(HEAD, rows), SECTION)


if __name__ == "__main__":
    main()
