"""Folders of policies on machines that share no disk: a node gets each once, by the hash of its content.

Where a worker sees the very files of the controller (same names, sizes and times), it reads them there. Elsewhere their
bytes come in pieces and are put together in a folder of the cache, checked and renamed, so that a half-written one is
never read. Leaves out: how the pieces travel (`cluster.py`).

    place("3f2a...", Path("runs/demo/rounds/000/policy"), listing(folder))  ->  a folder of this machine, or None
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sparring.runtime.files import cache_folder, hash_file

PIECE = 64 * 2**20
"""bytes that travel together: a store of a few GB holds many, and a folder of any size passes through"""
UNUSED_DAYS = 7
"""after which a received folder is removed when the next one comes"""


class Stat(NamedTuple):
    """Of a file: its size, and when it was last written, which no copy on another disk shares by chance."""

    size: int
    written_ns: int


Listing = Mapping[str, Stat]
"""the files of a folder, by their path in it"""


class Piece(NamedTuple):
    """Some bytes of a file in a folder."""

    file: str
    offset: int
    size: int


def listing(folder: Path) -> Listing:
    """All files of a folder and of the folders in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = {str(path.relative_to(folder)): path.stat() for path in files}
    return {name: Stat(stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def place(key: str, origin: Path, files: Listing) -> Path | None:
    """Where this machine has the folder `origin` of the controller; None where it has not.

    `files`: what the controller sees in it.
    """
    if origin.is_dir() and listing(origin) == files:
        return origin
    received = _received() / key
    if not received.is_dir():
        return None
    with suppress(OSError):  # a cache that is read only
        os.utime(received)
    return received


def pieces(files: Listing) -> Iterator[Piece]:
    """The bytes of all files, in pieces; an empty file has one of no bytes."""
    for name, stat in files.items():
        for offset in range(0, max(1, stat.size), PIECE):
            yield Piece(name, offset, min(PIECE, stat.size - offset))


def read_piece(origin: Path, piece: Piece) -> bytes:
    """The bytes of a piece."""
    with (origin / piece.file).open("rb") as stream:
        stream.seek(piece.offset)
        return stream.read(piece.size)


def write_piece(key: str, piece: Piece, content: bytes) -> None:
    """Put a piece where the folder is put together; pieces of a file come in order."""
    path = _partial(key) / piece.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if piece.offset else "wb") as stream:
        stream.seek(piece.offset)
        stream.write(content)


def seal(key: str, hashes: Mapping[str, str]) -> None:
    """Check the received files and rename their folder, which others may then read.

    Raises:
        ValueError: a file is not what was sent.
    """
    partial, target = _partial(key), _received() / key
    for name, digest in hashes.items():
        if hash_file(partial / name) != digest:
            raise ValueError(f"{partial / name} is not what was sent. Is the disk full?")
    try:
        partial.rename(target)
    except OSError:  # another process of this machine was first
        if not target.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)


def hashes(origin: Path, files: Listing) -> dict[str, str]:
    """SHA-256 of each file."""
    return {name: hash_file(origin / name) for name in files}


def forget_unused() -> None:
    """Remove received folders that no work has used for a week, and those left half done for as long."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for folder in _received().glob("*"):
        with suppress(FileNotFoundError):  # another process has renamed or removed it
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


def folder_key(*identities: str) -> str:
    """The key of a folder, from all that identifies its content."""
    return hashlib.sha256(repr(identities).encode()).hexdigest()[:32]


def _received() -> Path:
    return cache_folder() / "fleet"


def _partial(key: str) -> Path:
    return _received() / f"{key}.{os.uname().nodename}.{os.getpid()}.partial"
