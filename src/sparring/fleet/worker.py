"""The process of one device: opens a stage's work, makes its shards, and keeps the model until other work comes.

A plain class, which `cluster.py` makes an actor of; it decides nothing and writes no file of a run. Leaves out: who
gets which shard.

    worker = Worker(threads=1, path=["."]); worker.prepare(key, [reference]); unpack(worker.make(pack(payload)))
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sparring.fleet import folders
from sparring.fleet.packed import pack, unpack
from sparring.fleet.work import Job, Make, Places, Work
from sparring.runtime.memory import end_what_is_kept, release_memory


class Wanted(NamedTuple):
    """A folder that work reads: where the controller has it, and what it sees in it."""

    origin: Path
    files: folders.Listing


class Sent(NamedTuple):
    """Work and the folders that it reads, by the keys of their content."""

    work: Work | Job
    wanted: dict[str, Wanted]


class Worker:
    """Makes shards one after the other, all in the thread that it was made in."""

    def __init__(self, threads: int | None, path: list[str]) -> None:
        """`threads`: of torch on a CPU, None for as many as it takes; `path`: more places to import from.

        The first of them is the controller's folder: where this machine has it, relative paths mean the same here.
        """
        import torch
        import transformers

        sys.path.extend(place for place in path if place not in sys.path)
        with suppress(OSError):  # another disk; folders of policies have absolute names
            os.chdir(path[0])
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        transformers.utils.logging.disable_progress_bar()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        if threads is not None:
            torch.set_num_threads(threads)
        self._open: tuple[str, Make] | None = None
        self._next: tuple[str, Any] = "", None
        """the work whose shards come, and the reference to it"""
        self._stack = ExitStack()

    def facts(self) -> dict[str, Any]:
        """What the controller compares, and `sparring doctor --cluster` shows."""
        from sparring.fleet.facts import facts

        return facts()

    def prepare(self, key: str, box: list[Any]) -> None:
        """The shards that come are of this work: `box` holds a reference to what was sent.

        It is got with the first of them, and only where work of another key is open.
        """
        self._next = key, box[0]

    def make(self, content: bytes) -> bytes:
        """The packed result of a shard, from its packed payload."""
        key, reference = self._next
        if self._open is None or self._open[0] != key:
            self.close()
            work, places = self._get(reference)
            self._open = key, self._stack.enter_context(work.open(places))
        return pack(self._open[1](unpack(content)))

    def _get(self, reference: Any) -> tuple[Any, Places]:
        """What was sent, and where its folders are."""
        import ray  # type: ignore[reportMissingImports]

        work, wanted = ray.get(reference)
        places: dict[Path, Path] = {}
        for name, (origin, files) in wanted.items():
            found = folders.place(name, origin, files)
            if found is None:
                raise FileNotFoundError(f"{origin} has not come to {os.uname().nodename}. Give the same command again.")
            places[origin] = found
        return work, places

    def use(self, visible: str) -> None:
        """Have engines that are started from here see these GPUs; one that sees others ends."""
        if os.environ.get("CUDA_VISIBLE_DEVICES") != visible:
            self.rest()
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        self.close()

    def rest(self) -> None:
        """Let go of the model, and of an engine that is kept."""
        self.close()
        end_what_is_kept()

    def close(self) -> None:
        """Let go of the model."""
        self._open = None
        self._stack.close()
        release_memory()

    # ---- a task for all ------------------------------------------------------------------------

    def meet(self, address: str) -> tuple[str, int]:
        """Where the ranks meet: at this worker."""
        from sparring.fleet.gang import meet

        self._meeting, where = meet(address)
        return where

    def lead(self, size: int, where: tuple[str, int] | None, box: list[Any]) -> Iterator[Any]:
        """Do a task as rank 0; yields what the controller is to know."""
        from sparring.fleet.gang import group, lead

        self.close()
        job, places = self._get(box[0])
        with group(0, size, where):
            yield from lead(job, places)
        release_memory()

    def follow(self, number: int, size: int, where: tuple[str, int], box: list[Any]) -> None:
        """Do a task as another rank."""
        from sparring.fleet.gang import group

        self.close()
        job, places = self._get(box[0])
        with group(number, size, where), tempfile.TemporaryDirectory(prefix="sparring-") as scratch:
            job.run(places, Path(scratch), {})
        release_memory()

    # ---- folders ------------------------------------------------------------------------------

    def lacks(self, wanted: dict[str, Wanted]) -> list[str]:
        """Which folders this machine has not, by their keys."""
        folders.forget_unused()
        return [key for key, (origin, files) in wanted.items() if folders.place(key, origin, files) is None]

    def receive(self, key: str, piece: folders.Piece, content: bytes) -> None:
        """Bytes of a folder."""
        folders.write_piece(key, piece, content)

    def seal(self, key: str, hashes: dict[str, str]) -> None:
        """The folder has come whole."""
        folders.seal(key, hashes)
