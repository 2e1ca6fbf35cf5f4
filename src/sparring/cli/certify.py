"""`sparring certify`: algorithms on games whose equilibria are known exactly.

Two uses: the table of claims (no game named), and trajectories on one game as plain data or as a picture. Leaves out:
what is claimed (`certificates/claims/`), who plays (`certificates/certify.py`), drawing (`certificates/plot.py`).

    sparring certify inpo --game G3 --set eta=1 --set tau=0.1 --rounds 50 --json inpo.json
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sparring.cli.result import print_json, say, table, terminal
from sparring.cli.several import shared
from sparring.evaluation.result import finite
from sparring.runtime.plain_yaml import as_number, load_value

LEG = re.compile(r"([1-9]\d{0,5}):(\d*\.?\d+(?:e-?\d+)?)", re.IGNORECASE)
"""rounds and learning rate"""
PICTURES = (".svg", ".html")
FIELDS = ("claim", "source", "predicted", "measured", "seeds", "note")
VERDICTS = ("holds", "refuted", "measured", "FAILS")
UNCHECKED = "not checked"


def many_claims(algorithm: str, game: str | None, player: str | None, **arguments: Any) -> bool:
    """Whether there is work that other processes can share: the claims of all algorithms."""
    check_player(player)
    plays = game is not None or player not in (None, "tabular", "exact")
    return algorithm == "all" and not plays and not any(arguments[name] for name in ("json_", "plot", "set_"))


@partial(shared, first=many_claims)
def command(
    algorithm: Annotated[
        str,
        typer.Argument(help="A name (see `sparring algorithms`), package.module:Class, tree_search, arise, or all."),
    ],
    game: Annotated[
        str | None,
        typer.Option(
            help="G3, GR:n:seed, GBT:n:seed, SB:pairs:seed, GD, or a JSON file; default G3. Of the episodes player: "
            "kuhn_poker (default), matching_pennies, rock_paper_scissors, tic_tac_toe, negotiation, or your own "
            "SequentialGame as package.module:Class."
        ),
    ] = None,
    player: Annotated[
        str | None,
        typer.Option(
            help="exact, tabular, sampled, transformer or episodes. Default: tabular for claims; else exact if it can, "
            "sampled where pairs are selected."
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds to play. Default 50; 20 per start in claims.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A symbol of the paper or a field of ours: eta=1. May be repeated."),
    ] = None,
    pairs: Annotated[
        int, typer.Option(help="Per round: prompts of the sampled player, episodes of the episodes player.")
    ] = 4000,
    legs: Annotated[
        str | None,
        typer.Option(
            help="Of the episodes player, instead of --rounds: rounds and their learning rate, such as "
            "80:0.002,60:0.0005."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampled and transformer players, and of random starts.")] = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Of claims: source, prediction and measurement too.")
    ] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write trajectories here as JSON; - prints.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the gaps here; .svg or .html.")] = None,
) -> None:
    """Check algorithms against exact equilibria: claims with verdicts, or trajectories on a game.

    Without --game, --json, --plot and --set: a table with one row per claim; exit code 1 if one fails. With any of
    them: play that game and print gaps per algorithm. --devices and --cluster share out the claims of all.
    """
    from sparring.algorithms.algorithm import SHIPPED, find_algorithm
    from sparring.certificates.claims.check import SYSTEMS
    from sparring.runtime.locks import locked_path

    settings = parse_settings(set_ or [])
    check_numbers(rounds, pairs, seed)
    check_files(json_, plot)
    names = list(SHIPPED) if algorithm == "all" else [algorithm]
    if algorithm not in ("all", *SYSTEMS):
        find_algorithm(algorithm)
    elif algorithm in SYSTEMS and (game or json_ or plot or settings):
        raise ValueError(f"{algorithm} is checked on games of its own: leave out --game, --set, --json and --plot.")
    chosen = check_player(player)
    if legs is not None and chosen != "episodes":
        raise ValueError("--legs is of --player episodes; leave it out.")
    with contextlib.ExitStack() as locks:
        for file in (json_, plot):
            if file is not None and file != Path("-"):
                locks.enter_context(locked_path(file))
        if chosen == "transformer":
            transformer(names, game, settings, rounds or 5, seed, json_, plot)
        elif chosen == "episodes":
            parts = parse_legs(legs, rounds)
            episodes(names, game or "kuhn_poker", settings, parts, pairs, seed, json_, plot)
        elif game is None and json_ is None and plot is None and not settings and chosen != "sampled":
            claims(names, chosen or "tabular", rounds or 20, seed, verbose)
        else:
            options = {"rounds": rounds or 50, "pairs": pairs, "seed": seed}
            trajectories(names, algorithm == "all", game or "G3", chosen, settings, options, json_, plot)


# ---------------------------------------------------------------- arguments


def check_player(player: str | None) -> Any:
    """The player, after a check that it exists."""
    from sparring.certificates.certify import PLAYERS

    if player is not None and player not in PLAYERS:
        near = difflib.get_close_matches(player, PLAYERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"--player {player}: unknown player.{hint} Choose one of {', '.join(PLAYERS)}.")
    return player


def check_numbers(rounds: int | None, pairs: int, seed: int) -> None:
    """Raise ValueError for numbers that no player can use."""
    for option, value, least in (("rounds", rounds, 1), ("pairs", pairs, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise ValueError(f"--{option} {value}: give at least {least}.")


def check_files(json_: Path | None, plot: Path | None) -> None:
    """Raise ValueError, before anything is played, for files that could not be written."""
    from sparring.runtime.files import check_output

    if plot is not None and plot.suffix not in PICTURES:
        raise ValueError(f"--plot {plot}: the suffix decides the format; use .svg or .html.")
    for option, path in (("--json", json_), ("--plot", plot)):
        if path is not None and path != Path("-"):
            check_output(path, option)
    if json_ is not None and json_ == plot:
        raise ValueError(f"--json and --plot are the same file, {plot}; give two.")


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts with YAML values; a key may come once."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise ValueError(f"--set {text!r}: write it as symbol=value, for example eta=1.")
        if key in settings:
            raise ValueError(f"--set {key} is given twice; leave one out.")
        try:
            parsed = load_value(value)
        except ValueError as error:
            raise ValueError(f"--set {text!r}: {value!r} is not readable YAML; put text in quotes.") from error
        if (
            isinstance(parsed, str)
            and "," in parsed
            and all(isinstance(as_number(n), float) for n in parsed.split(","))
        ):
            raise ValueError(f"--set {text!r}: several numbers are a list; write {key}=[{value}].")
        settings[key] = parsed
    return settings


def parse_legs(text: str | None, rounds: int | None) -> list[tuple[int, float]]:
    """`ROUNDS:RATE,...`; without, one leg of all rounds."""
    from sparring.certificates.players.episodes import LEARNING_RATE

    if text is None:
        return [(rounds or 20, LEARNING_RATE)]
    if rounds is not None:
        raise ValueError("--rounds and --legs both say how many rounds; leave one out.")
    legs = []
    for part in text.split(","):
        found = LEG.fullmatch(part.strip())
        if found is None or not 0 < float(found[2]) < math.inf:
            raise ValueError(f"--legs {part!r}: write ROUNDS:RATE, for example 80:0.002,60:0.0005.")
        legs.append((int(found[1]), float(found[2])))
    return legs


# ---------------------------------------------------------------- claims


def claims(names: Sequence[str], player: str, rounds: int, seed: int, verbose: bool) -> None:
    """Check and print the claims; exit code 1 if one fails.

    Raises:
        ValueError: not one was checked.
    """
    from sparring.certificates.claims.check import Checked, Row, check_all, left_out

    def report(row: Row) -> None:
        name, of_algorithm, seconds = row
        say(terminal(stderr=True), f"{name}: {len(of_algorithm)} claims, {seconds:.1f} s")

    unfitted = {name: count for name in names if (count := left_out(name, player))}
    rows = check_all(names, Checked(player, rounds, seed), report)
    checked = [claim for _, of_algorithm, _ in rows for claim in of_algorithm]
    counts = Counter(claim.verdict for claim in checked)
    fits = ", ".join(f"{count} of {name}" for name, count in unfitted.items())
    if not any(counts[word] for word in VERDICTS):
        whys = [claim.measured for claim in checked] or [f"checks that need fits: {fits}; use --player tabular"]
        raise ValueError(f"nothing was checked ({'; '.join(whys)}).")
    screen = terminal()
    words = (*VERDICTS, UNCHECKED) if counts[UNCHECKED] else VERDICTS
    say(screen, ", ".join(f"{counts[word]} {word}" for word in words))
    if fits:
        say(screen, f"checks left out, since they need fits (--player tabular): {fits}")
    if not verbose:
        rows = [(claim.name, claim.algorithm, claim.verdict, claim.claim) for claim in checked]
        screen.print(table("", ("name", "algorithm", "verdict", "claim"), rows))
        unchecked = {(claim.algorithm, claim.measured): claim.name for claim in checked if claim.verdict == UNCHECKED}
        say(screen, *(f"{name} of {of} was not checked: {why}" for (of, why), name in unchecked.items()))
    for claim in checked:
        if verbose or claim.verdict == "FAILS":
            rows = [(field, str(value)) for field in FIELDS if (value := getattr(claim, field))]
            screen.print()
            screen.print(table(f"{claim.name}, {claim.algorithm}: {claim.verdict}", ("", ""), rows))
    if counts["FAILS"]:
        sys.exit(1)


# ---------------------------------------------------------------- trajectories


def trajectories(
    names: Sequence[str],
    many: bool,
    game: str,
    player: Any,
    settings: Mapping[str, Any],
    options: Mapping[str, int],
    json_: Path | None,
    plot: Path | None,
) -> None:
    """Play, print one row per algorithm, and write what was asked for; of many, some may be skipped."""
    from sparring.certificates.certify import certify_all, last_values

    on, results = certify_all(names, game, player, settings, skip=many, **options)
    played = {name: result for name, result in results.items() if "skipped" not in result}
    if json_ is not None:
        write_json(results if many else results[names[0]], json_)
    if plot is not None:
        from sparring.certificates.plot import write_plot

        write_plot(played, on, plot)
        terminal(stderr=True).print(str(plot))
    if json_ == Path("-"):
        return
    rows = []
    for name, result in played.items():
        ends = ("-" if end is None else f"{end:.4g}" for end in last_values(result, on).values())
        rows.append((name, result["player"], *ends, result["solves"]))
    rounds = ", ".join(str(count) for count in dict.fromkeys(result["rounds"] for result in played.values()))
    title = f"game {on.name}: {on.n_contexts} context(s), {on.n_actions} actions, {rounds} rounds"
    columns = ("gap, last", "gap, average", "regularised gap", "KL(target, last)")
    screen = terminal()
    screen.print(table(title, ("algorithm", "player", *columns, "target"), rows))
    for name, result in results.items():
        say(screen, *(f"{name}: {note}" for note in result.get("notes", ())))
        if "skipped" in result:
            say(screen, f"{name} skipped: {result['skipped']}")


def write_json(content: Any, path: Path) -> None:
    """Plain JSON: numbers that are not finite become null."""
    if path == Path("-"):
        print_json(content)
    else:
        from sparring.runtime.files import write_text

        write_text(path, json.dumps(finite(content), allow_nan=False) + "\n")


# ---------------------------------------------------------------- the transformer player


def episodes(
    names: Sequence[str],
    game: str,
    settings: Mapping[str, Any],
    legs: Sequence[tuple[int, float]],
    count: int,
    seed: int,
    json_: Path | None,
    plot: Path | None,
) -> None:
    """A tiny model plays a game between roles; exit code 1 if it is no less exploitable than at the start."""
    if len(names) > 1 or plot is not None:
        raise ValueError("--player episodes plays one algorithm and draws nothing; leave out --plot and all.")
    from sparring.certificates.players.episodes import certify_episodes
    from sparring.runtime.progress import Progress

    with Progress(terminal(stderr=True)).task("rounds", sum(rounds for rounds, _ in legs)) as advance:
        result = certify_episodes(names[0], settings, game, legs, count, seed, advance)
    if json_ is not None:
        write_json(result, json_)
    if json_ != Path("-"):
        columns = ("round", "exploitability", "first gets", "least share of legal replies")
        gaps, values, legal = (result[key] for key in ("exploitability", "value", "least_legal_share"))
        rows = [
            (str(t), f"{gap:.4f}", f"{value:+.3f}", f"{least:.3f}")
            for t, (gap, value, least) in enumerate(zip(gaps, values, legal, strict=True))
        ]
        terminal().print(table(f"{names[0]} on {game}: {result['episodes']:,} episodes a round", columns, rows))
    first, *_, last = result["exploitability"]
    if not last < first:
        terminal(stderr=True).print(f"exploitability did not fall: {first:.4f} -> {last:.4f}")
        sys.exit(1)


def transformer(
    names: Sequence[str],
    game: str | None,
    settings: Mapping[str, Any],
    rounds: int,
    seed: int,
    json_: Path | None,
    plot: Path | None,
) -> None:
    """Play the enumerable language model's own game; exit code 1 if the gap did not fall."""
    if len(names) > 1 or game is not None or plot is not None:
        raise ValueError(
            "--player transformer plays one algorithm on a game of its own; leave out --game, --plot and all."
        )
    from sparring.certificates.players.transformer import certify_transformer

    result = certify_transformer(names[0], settings, rounds, seed)
    if json_ is not None:
        write_json(result, json_)
    rows = []
    for t, (plain, gap) in enumerate(zip(result["duality_gap_last"], result["gap"], strict=True)):
        distance = result["distance_to_exact_step"]
        shown = "-" if t == 0 or distance is None else f"{distance[t - 1]:.3f}"
        rows.append((str(t), f"{plain:.4f}", f"{gap:.4f}", shown))
    if json_ != Path("-"):
        title = f"{names[0]}: a tiny Llama over {result['responses']} responses, {result['prompts']} prompts"
        columns = ("round", "duality gap", "gap of its own game", "total variation to the exact step")
        terminal().print(table(title, columns, rows))
    if not result["gap"][-1] < result["gap"][0]:
        terminal(stderr=True).print(f"the gap did not fall: {result['gap'][0]:.4f} -> {result['gap'][-1]:.4f}")
        sys.exit(1)
