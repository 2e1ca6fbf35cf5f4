"""What a run's folder says of itself: its recipe and its manifest as plain data, checked. Loads no model code.

read_manifest(Path("runs/demo"))["rounds/000/fit"]["facts"]["steps"]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparring.runtime import layout
from sparring.runtime.files import check_object, read_object
from sparring.runtime.layout import STOP_STAGE, round_folder
from sparring.runtime.plain_yaml import read_yaml

Plain = dict[str, Any]


def read_stored(root: Path) -> Plain:
    """The recipe of a run's folder, as plain data, with the sections that every stored recipe has.

    Raises:
        ValueError: the file is damaged.
    """
    path = root / layout.RECIPE
    plain = read_yaml(path, "the run's recipe")
    needed = {"rounds": int, "algorithm": dict, "fit": dict}
    if not isinstance(plain, dict) or not all(isinstance(plain.get(name), kind) for name, kind in needed.items()):
        raise ValueError(
            f"{path} is damaged: it holds no whole recipe. Copy the recipe there that the run was started with, every "
            "default filled in, or give another --out."
        )
    return plain


def read_manifest(root: Path) -> dict[str, Plain]:
    """The entries of the finished stages, by key; none where no stage has finished.

    Raises:
        ValueError: the file is damaged.
    """
    path = root / layout.MANIFEST
    if not path.exists():
        return {}
    manifest = read_object(path)
    for key, entry in manifest.items():
        check_object(path, entry, ("inputs", "outputs", "facts", "seconds"), key)
        for name in ("inputs", "outputs", "facts"):
            check_object(path, entry[name], (), f"{key}, {name},")
    return manifest


def kept_rounds(root: Path, manifest: Mapping[str, Any], seat: str = "play") -> list[int]:
    """After which rounds the policies were made that are still on disk."""
    folders = {round_folder(t, seat): t + 1 for t in range(len(manifest))}
    return [t for folder, t in folders.items() if folder.stage("fit") in manifest and (root / folder.policy).is_dir()]


def stopped(manifest: Mapping[str, Any], rounds: int) -> Plain | None:
    """The facts of a stop by evaluation.patience before the last of `rounds` rounds; None where there was none."""
    facts = manifest.get(STOP_STAGE, {}).get("facts")
    return facts if facts and facts["after"] < rounds else None


def rounds_made(manifest: Mapping[str, Any], rounds: int) -> int:
    """How many of a recipe's `rounds` a run has when it is finished: fewer where evaluation.patience stopped it."""
    facts = stopped(manifest, rounds)
    return facts["after"] if facts else rounds
