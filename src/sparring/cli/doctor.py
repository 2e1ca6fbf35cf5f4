"""`sparring doctor`: what this machine and installation can do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.result import Json, print_json, say, table, terminal
from sparring.runtime.words import counted

MAIN = ("python", "sparring", "torch", "transformers")
"""packages whose versions decide most"""


def command(
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Examine every machine of a Ray cluster: auto, local, or HOST:PORT."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="With --cluster: a folder; do all machines see it? Default: here.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every version, path and extra.")] = False,
    json_: Json = False,
) -> None:
    """Show versions, devices, memory and extras, and say what will be slow or is broken.

    Exit code 1 if a requirement is missing or of an untested version, or a machine of the cluster differs.
    """
    from sparring.runtime.doctor import examine

    if run is not None and cluster is None:
        raise ValueError(
            "--run: whether machines see a folder is asked with --cluster, which is missing. Give --cluster auto, or "
            "leave --run out."
        )
    if cluster is not None:
        examine_cluster(cluster, run or Path(), json_)
        return
    report = examine()
    if json_:
        print_json(report)
    else:
        show(report, terminal(), verbose)
    if report["problems"]:
        sys.exit(1)


def examine_cluster(address: str, folder: Path, json_: bool) -> None:
    """A row per machine of a cluster, and what keeps it from working with this one."""
    from sparring.fleet.join import joined

    with joined(None if address == "local" else address):
        from sparring.fleet.examine import examine_machines  # imports Ray, whose absence `joined` explains

        report = examine_machines(folder)
    if json_:
        print_json(report)
    else:
        show_cluster(report, terminal())
    if report["problems"]:
        sys.exit(1)


def show_cluster(report: dict[str, Any], screen: Console) -> None:
    """Problems and notes, then the table of machines."""
    number = len(report["problems"])
    say(screen, f"{counted(number, 'problem') if number else 'no problems'} found")
    say(screen, *(f"problem: {problem}" for problem in report["problems"]))
    say(screen, *(f"note: {note}" for note in report["notes"]))
    columns = ("machine", "devices", "torch", "Ray", "code", "sees the folder", "free disk", "free shm", "clock")
    rows = [
        (
            machine["address"],
            f"{len(machine['gpus'])} GPUs" if machine["gpus"] else f"{machine['cpus']} CPUs",
            str(machine["versions"]["torch"]),
            str(machine["versions"]["ray"]),
            machine["code"],
            "yes" if machine["sees_folder"] else "no",
            f"{machine['disk_free'] / 1e9:.0f} GB",
            "none" if machine["shm_free"] is None else f"{machine['shm_free'] / 1e9:.1f} GB",
            f"{machine['clock']:+.1f} s",
        )
        for machine in report["machines"]
    ]
    screen.print()
    screen.print(table("", columns, rows))


def show(report: dict[str, Any], screen: Console, verbose: bool) -> None:
    """Problems and notes, then what is here."""
    number = len(report["problems"])
    say(screen, f"{counted(number, 'problem') if number else 'no problems'} found")
    say(screen, *(f"problem: {problem}" for problem in report["problems"]))
    say(screen, *(f"note: {note}" for note in report["notes"]))
    named = sections(report, verbose).items()
    rows = [("" if place else name, line) for name, lines in named for place, line in enumerate(lines)]
    screen.print()
    screen.print(table("", ("", ""), rows))
    if not verbose:
        say(screen, "Every version, path and extra: --verbose")


def sections(report: dict[str, Any], verbose: bool) -> dict[str, list[str]]:
    """Lines by the name of their section."""
    cpu, memory = report["devices"][0], report["memory"]
    cores = cpu["cores"]
    gpus = [
        f"{gpu['name']}: {gpu['free'] / 1e9:.0f} of {gpu['memory'] / 1e9:.0f} GB free, capability {gpu['capability']}"
        for gpu in report["devices"][1:]
    ]
    versions = [f"{name} {version or 'missing'}" for name, version in report["versions"].items()]
    main = [text for text in versions if text.split()[0] in MAIN]
    extras = report["extras"]
    there = [name for name, packages in extras.items() if None not in packages.values()]
    return {
        "versions": [", ".join(versions if verbose else main)],
        "CPU": [f"{cpu['name']}, {cores['physical']} cores ({cpu['usable_cores']} usable), {cpu['threads']} threads"],
        "GPU": gpus or ["none"],
        "memory": [f"{memory['available'] / 1e9:.1f} of {memory['total'] / 1e9:.1f} GB available"],
        "disk": [_disk(name, place, verbose) for name, place in report["disk"].items()],
        "speed": [", ".join(f"{name} {value:,.0f} GFLOP/s" for name, value in report["speed"].items())],
        "extras": [_extra(name, packages) for name, packages in extras.items()] if verbose else [", ".join(there)],
        "environment": [f"{name}: {value}" for name, value in report["environment"].items() if value is not None],
    }


def _disk(name: str, place: dict[str, Any], verbose: bool) -> str:
    return f"{place['free'] / 1e9:.0f} GB free, {name}" + (f": {place['path']}" if verbose else "")


def _extra(name: str, packages: dict[str, str | None]) -> str:
    missing = [package for package, version in packages.items() if version is None]
    if missing:
        return f"{name}: lacks {', '.join(missing)} (pip install 'sparring[{name}]')"
    return f"{name}: {', '.join(f'{package} {version}' for package, version in packages.items())}"
