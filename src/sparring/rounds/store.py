"""A run on disk: stages from files to files, finished once, written beside their target and renamed.

    runs/NAME/recipe.yaml, lock.json, manifest.json, rounds/000/{samples,verdicts,pairs,anchors}.parquet ...

`manifest.json` has one entry per finished stage: its inputs' hashes and its outputs' hashes; of a policy folder, that
of its weights, and of every other file on which its answers depend. A finished stage is never run twice; a file that
changed since it was written is an error; a file that is gone makes its stage run again, and every later stage whose
inputs then differ. What another run made from the same inputs can be copied (`twins`). Half-done work (shards, fit
checkpoints) lives in `*.partial` folders.
Leaves out: what the stages do.

    store = Store(Path("runs/demo")); store.stage("rounds/000/pair", inputs, work)
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.models.identity import hash_weights, reading_files
from sparring.rounds.state import read_manifest
from sparring.runtime.errors import OracleError, reason_of
from sparring.runtime.files import beside, hash_file, make_folder, write_json
from sparring.runtime.layout import HELD_OUT, LOCK, MANIFEST, PROGRESS, RECIPE, RUN_LOCK, TRAIN, USAGE, stage_name
from sparring.runtime.locks import take
from sparring.runtime.memory import OutOfMemory, PeakMemory, ran_out, release_memory
from sparring.runtime.words import counted

Counts = dict[str, Any]
"""a stage's numbers, which the manifest keeps under `facts`"""
LATER = ("files",)
"""inputs that entries of earlier versions lack: they are taken as they are now"""
SAVERS = {
    "sample": "sampling.batch_size (or with vLLM sampling.vllm.memory_share)",
    "anchor": "fit.micro_batch_tokens (the same result), or set fit.shard_weights with several devices",
    "fit": "fit.micro_batch_tokens (the same result), or set fit.gradient_checkpointing",
    "measure": "fit.micro_batch_tokens",
    "judge": "the oracle's batch_size or max_tokens",
    "summary": "the oracles' batch_size or max_tokens",
}
"""by the stage's name: what to lower where memory ran out"""


@dataclass(frozen=True, slots=True)
class Made:
    """The output files or policy folders of a stage (relative to the run), and numbers to show."""

    outputs: tuple[str, ...]
    counts: Counts


class Store:
    """The run's folder and its manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = read_manifest(root)
        self.twins: Mapping[str, Sequence[Path]] = {}
        """by stage, folders of runs that make the same there: what one finished from the same inputs is copied"""
        self._ran: set[str] = set()
        self._made_folder = False

    def __repr__(self) -> str:
        """The folder, and how far it is."""
        return f"Store({str(self.root)!r}: {counted(len(self.manifest), 'finished stage')})"

    def path(self, relative: str) -> Path:
        """An absolute path inside the run, its folder made."""
        path = self.root / relative
        make_folder(path.parent)
        return path

    def stage(self, key: str, inputs: Mapping[str, str], work: Callable[[], Made]) -> Counts:
        """Run `work` unless the manifest has it; returns its counts.

        `inputs` maps names to hashes; a finished stage whose inputs have other hashes is run again,
        and so is every stage that reads its outputs.
        """
        entry = self.manifest.get(key)
        if entry is not None and self._present(entry):
            known = {name: value for name, value in inputs.items() if name in entry["inputs"] or name not in LATER}
            if entry["inputs"] == known:
                if known != dict(inputs):
                    entry["inputs"] = dict(inputs)
                    write_json(self.root / MANIFEST, self.manifest)
                return entry["facts"]
        # Killed half-way, a second run leaves files that the old hashes would call altered.
        self.forget(key)
        if any(self._copied(Store(folder), key, inputs) for folder in self.twins.get(key, ())):
            return self.manifest[key]["facts"]
        start = time.monotonic()
        with PeakMemory() as memory:
            made = _with_remedy(key, work)
        release_memory()
        self.manifest[key] = {
            "inputs": dict(inputs),
            "outputs": {name: self.fingerprint(name) for name in made.outputs},
            **({"files": files} if (files := self._policy_files(made.outputs)) else {}),
            "facts": made.counts,
            "seconds": round(time.monotonic() - start, 1),
            "peak_bytes": memory.peak,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        write_json(self.root / MANIFEST, self.manifest)
        self._ran.add(key)
        return made.counts

    def _copied(self, twin: Store, key: str, inputs: Mapping[str, str]) -> bool:
        """Copy the stage's files from a twin, with the entry and so the seconds that they took there."""
        entry = twin.manifest.get(key)
        if entry is None or entry["inputs"] != dict(inputs):
            return False
        if not all((twin.root / name).is_file() for name in entry["outputs"]):
            return False
        if any(twin._altered(name, expected) for name, expected in entry["outputs"].items()):
            return False
        for name in entry["outputs"]:
            with beside(self.path(name)) as partial:
                shutil.copyfile(twin.root / name, partial)
        self.manifest[key] = {**entry, "copied_from": str(twin.root)}
        write_json(self.root / MANIFEST, self.manifest)
        return True

    def file(
        self, key: str, relative: str, inputs: Mapping[str, str], make: Callable[[Path], Counts]
    ) -> tuple[Counts, str]:
        """Run a stage with one output, which `make` writes to the path that it gets; returns counts and the hash."""
        counts = self.stage(key, inputs, lambda: Made((relative,), make(self.path(relative))))
        return counts, self.output_hash(key, relative)

    def ran(self, key: str) -> bool:
        """Whether this process ran the stage, which a resumed run may have found finished."""
        return key in self._ran

    @property
    def idle(self) -> bool:
        """Whether this process ran no stage."""
        return not self._ran

    def finished(self, key: str) -> bool:
        """Whether the stage was run and what it made is there (or pruned)."""
        return key in self.manifest and self._present(self.manifest[key])

    def link(self, name: str, relative: str | None) -> None:
        """Make `name` in the run a link to one of its folders, for people; None takes the link away."""
        link = self.root / name
        if relative is not None and link.is_symlink() and str(link.readlink()) == relative:
            return
        if link.is_symlink():
            link.unlink()
        if relative is not None and not link.exists():
            with contextlib.suppress(OSError):  # not all file systems have links
                link.symlink_to(relative)

    def forget(self, key: str) -> None:
        """Have a stage run again, if it was run."""
        if self.manifest.pop(key, None) is not None:
            write_json(self.root / MANIFEST, self.manifest)

    def _present(self, entry: Mapping[str, Any]) -> bool:
        pruned = entry.get("pruned", [])
        return all((self.root / name).exists() or name in pruned for name in entry["outputs"])

    def check(self) -> None:
        """Compare every stored output with its hash.

        Raises:
            ValueError: a file was altered or cut short since it was written, or one of a policy folder is missing.
        """
        for key, entry in self.manifest.items():
            for name in entry["outputs"]:
                self.check_output(key, name)

    def check_output(self, key: str, name: str) -> None:
        """As `check`, of one output of a finished stage; one that is gone passes, since it is made again."""
        entry = self.manifest[key]
        # A pruned policy may be half deleted: a kill came in between.
        if name in entry.get("pruned", []) or not (self.root / name).exists():
            return
        if self._altered(name, entry["outputs"][name]):
            raise ValueError(
                f"{self.root / name} was altered or cut short since stage {key} wrote it. "
                f"Restore it, or delete it to have {key} and what depends on it run again."
            )
        if changes := changed_files(entry.get("files", {}).get(name), self.root / name):
            raise ValueError(
                f"{changes} since stage {key} wrote the policy. Restore what was there, or delete {self.root / name} "
                f"to have {key} and what depends on it run again."
            )

    def record_files(self, key: str, name: str) -> None:
        """Add the files of a policy folder to the entry of an earlier version, which has the hash of its weights."""
        self.manifest[key].setdefault("files", {})[name] = reading_files(self.root / name)
        write_json(self.root / MANIFEST, self.manifest)

    def _policy_files(self, outputs: Iterable[str]) -> dict[str, dict[str, str]]:
        return {name: reading_files(self.root / name) for name in outputs if (self.root / name).is_dir()}

    def _altered(self, name: str, expected: str) -> bool:
        if not (self.root / name).exists():
            return False
        try:
            return self.fingerprint(name) != expected
        except ValueError:  # cut short, so that it cannot even be read
            return True

    def fingerprint(self, relative: str) -> str:
        """Hash of a file, or of a policy folder's weights."""
        path = self.root / relative
        return hash_weights(path) if path.is_dir() else hash_file(path)

    def output_hash(self, key: str, relative: str) -> str:
        """The recorded hash of a finished stage's output."""
        return self.manifest[key]["outputs"][relative]

    def prune(self, key: str, relative: str) -> None:
        """Delete a policy or a file that nothing needs any more, and say so in the manifest."""
        entry = self.manifest[key]
        if relative not in entry.get("pruned", []):
            entry.setdefault("pruned", []).append(relative)
            write_json(self.root / MANIFEST, self.manifest)
        path = self.root / relative
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[Store]:
        """Hold the run, as two processes writing it would ruin it; yields its store.

        Raises:
            ValueError: another process holds it, or the folder is not a run's.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"{self.root} is a file, not a run folder. Give another --out.")
        started = any((self.root / name).exists() for name in (RUN_LOCK, MANIFEST))
        there = self.root.iterdir() if self.root.exists() else ()
        # A killed command leaves the lock of a file that it was to write, which holds nothing.
        if not started and any(not (path.name.startswith(".") and path.suffix == ".lock") for path in there):
            raise ValueError(
                f"{self.root} holds files and is not a run folder; a run could overwrite them. Give another --out."
            )
        new = not self.root.exists()
        make_folder(self.root)
        with (self.root / RUN_LOCK).open("w") as handle:
            take(handle.fileno(), self.root)
            store = Store(self.root)  # read again: the process that held it before may have written
            store._made_folder = new
            yield store

    @contextlib.contextmanager
    def first_start(self) -> Iterator[None]:
        """Around all that comes before the first work: a new run that is refused here leaves nothing in its folder.

        What fails otherwise (no network, no memory, a full disk) can go on with the same recipe: its data stay.
        """
        new = not self.manifest and not any((self.root / name).exists() for name in (RECIPE, LOCK))
        try:
            yield
        except (ValueError, OracleError):
            if new:
                self._take_back()
            raise

    @contextlib.contextmanager
    def first_work(self) -> Iterator[None]:
        """Around work in a folder that is no run's: where it fails before it kept anything, its locks go again."""
        try:
            yield
        except Exception:
            if not any(path.is_file() and path.name not in (RUN_LOCK, LOCK) for path in self.root.rglob("*")):
                self._take_back()
            raise

    def _take_back(self) -> None:
        """Remove what a start writes, by name: a user's file, such as replies that were paid, may lie here too."""
        self.remove_data()
        for folder in filter(Path.is_dir, self.root.iterdir()):
            with contextlib.suppress(OSError):  # something lies in it
                folder.rmdir()
        for name in (RECIPE, LOCK, MANIFEST, RUN_LOCK, PROGRESS, USAGE):
            (self.root / name).unlink(missing_ok=True)
        if self._made_folder:
            with contextlib.suppress(OSError):  # something else lies in it
                self.root.rmdir()

    def remove_data(self) -> None:
        """Remove the prepared examples and their shards by name: a user's own files may lie beside them."""
        for table in (self.root / TRAIN, self.root / HELD_OUT):
            shutil.rmtree(table.with_suffix(".partial"), ignore_errors=True)
            table.unlink(missing_ok=True)


def changed_files(recorded: Mapping[str, str] | None, folder: Path) -> str:
    """Which files beside a model's weights are not as recorded, in words; empty where all are, or none were."""
    now = recorded if recorded is None else reading_files(folder)
    if now is None or recorded is None or now == recorded:
        return ""
    names = sorted(name for name in {*recorded, *now} if recorded.get(name) != now.get(name))
    what = {name: "altered" if name in recorded and name in now else "added" if name in now else "" for name in names}
    return ", ".join(f"{folder / name} {f'was {what[name]}' if what[name] else 'is missing'}" for name in names)


def _with_remedy(key: str, work: Callable[[], Made]) -> Made:
    """The work's result; raises `OutOfMemory`, which names the field that takes less, where an allocation failed."""
    try:
        return work()
    except Exception as error:
        saver = SAVERS.get(stage_name(key))
        if saver is None or not ran_out(error):
            raise
        raise OutOfMemory(
            f"{key} ran out of memory: {reason_of(error)} Lower {saver}, and give the same command: what was "
            "finished is kept."
        ) from error
