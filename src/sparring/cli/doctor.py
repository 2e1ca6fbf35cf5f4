"""`sparring doctor`: what this machine and installation can do."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("doctor")
    def command(
        json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    ) -> None:
        """Show versions, devices, memory and extras, and say what will be slow or is broken.

        Exit code 1 if a requirement is missing or of an untested version.
        """
        from sparring.runtime.doctor import examine

        found = examine()
        if json_:
            print(json.dumps(found))
        else:
            show(found, Console(highlight=False, soft_wrap=True))
        if found["problems"]:
            sys.exit(1)


def show(found: dict[str, Any], console: Console) -> None:
    """Tables of facts, then problems and notes."""
    table = Table(show_header=False)
    for name, lines in sections(found).items():
        table.add_row(name, "\n".join(lines).replace("[", r"\["))
    console.print(table)
    for problem in found["problems"]:
        console.print(f"problem: {problem}", markup=False)
    for note in found["notes"]:
        console.print(f"note: {note}", markup=False)
    if not found["problems"]:
        console.print("no problems found")


def sections(found: dict[str, Any]) -> dict[str, list[str]]:
    """What is shown, line by line."""
    memory, cpu = found["memory"], found["devices"][0]
    cores = cpu["cores"]
    gpus = [
        f"{gpu['name']}: {gpu['free'] / 1e9:.0f} of {gpu['memory'] / 1e9:.0f} GB free, capability {gpu['capability']}"
        for gpu in found["devices"][1:]
    ]
    return {
        "versions": _columns([f"{name} {version or 'missing'}" for name, version in found["versions"].items()]),
        "CPU": [
            f"{cpu['name']}, {cores['physical']} cores ({cores['logical']} logical, {cpu['usable_cores']} usable), "
            f"{cpu['threads']} torch threads, {cpu['instructions']}"
        ],
        "GPU": gpus or ["none"],
        "memory": [f"{memory['available'] / 1e9:.1f} of {memory['total'] / 1e9:.1f} GB available"],
        "disk": [f"{name}: {p['free'] / 1e9:.0f} GB free ({p['path']})" for name, p in found["disk"].items()],
        "speed": [", ".join(f"{name} {value:,.0f} GFLOP/s" for name, value in found["speed"].items())],
        "extras": [_extra(name, packages) for name, packages in found["extras"].items()],
        "environment": [f"{name}: {value}" for name, value in found["environment"].items() if value is not None],
    }


def _extra(name: str, packages: dict[str, str | None]) -> str:
    missing = [package for package, version in packages.items() if version is None]
    if missing:
        return f"{name}: lacks {', '.join(missing)} (pip install 'sparring[{name}]')"
    return f"{name}: {', '.join(f'{package} {version}' for package, version in packages.items())}"


def _columns(entries: list[str], width: int = 5) -> list[str]:
    return [", ".join(entries[i : i + width]) for i in range(0, len(entries), width)]
