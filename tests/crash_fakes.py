"""Deaths on demand: a run that is killed at every change it makes to the disk, once at each.

Memory is lost at a kill, so only what is on disk matters: dying after every rename, Parquet write, deletion and
checkpoint covers every stage boundary and the inside of every stage ("after" one is "before" the next).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sparring.training import fit as fit_module


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches SIGKILL."""


class Crashes:
    """Wraps the operations that change the disk under `root`; each place kills the first time it is reached."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, only: str = "") -> None:
        self.root, self.only = root, re.compile(only)
        self.places: list[str] = []
        self.dead = False
        patch.setattr(os, "fsync", lambda _: None)  # only a power cut could tell
        for owner, name in (
            (Path, "replace"),
            (Path, "rename"),
            (Path, "unlink"),
            (shutil, "rmtree"),
        ):
            self._wrap(patch, owner, name, lambda path, *_, **__: self._name(Path(path)))
        self._wrap(patch, pq, "write_table", lambda _, path, **__: self._name(Path(path)))
        self._wrap(
            patch,
            fit_module,
            "save_checkpoint",
            lambda folder, _, state: f"{self._name(folder)} step {len(state['rows'])}",
        )

    def _name(self, path: Path) -> str:
        """A place's name: the path, and for the manifest how many stages it holds."""
        if not path.is_relative_to(self.root):
            return ""
        name = str(path.relative_to(self.root))
        if path.name == ".manifest.json.partial":
            name += f" of {len(json.loads(path.read_text()))} stages"
        return name

    def _wrap(self, patch: pytest.MonkeyPatch, owner: Any, name: str, describe: Callable[..., str]) -> None:
        true = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Killed  # the dead clean nothing up
            what = describe(*args, **kwargs)
            result = true(*args, **kwargs)
            if what:
                self._die_once(f"{name} {what}")
            return result

        patch.setattr(owner, name, wrapped)

    def _die_once(self, place: str) -> None:
        if place not in self.places and self.only.search(place):
            self.places.append(place)
            self.dead = True
            raise Killed(place)

    def survive(self, work: Callable[[], Any]) -> Any:
        """Do the work again and again until it is done; every time it dies at a new place."""
        while True:
            try:
                return work()
            except Killed:
                self.dead = False
