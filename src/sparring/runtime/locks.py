"""One writer at a time: a second process that would write the same file or folder is refused, before it works.

The system lets go of a lock when its process ends, however it ends; a kill leaves at most an empty hidden file. Within
a process a lock may be taken again. Lustre mounted without `flock`, some NFS and FUSE: there the work goes on without
the lock after a note, as a lock file would stay behind after a kill and stop every later start. Leaves out: a run's
own lock, which lies in its folder (`rounds/store.py`).

    with locked_folder(Path("runs/audit")): ...
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from sparring.runtime.files import hidden_beside, make_folder

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF)
"""what file systems say that have none; NFS says EBADF of a folder, which cannot be opened for writing"""
_held: set[Path] = set()
"""what this process holds"""
_told: set[Path] = set()


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where there is none.

    Raises:
        ValueError: another process holds it, or no folder can be there.
    """
    make_folder(folder)
    with _held_once(folder) as first:
        if not first:
            yield
            return
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            take(handle, folder)
            yield
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked_path(path: Path) -> Iterator[None]:
    """Hold the path of a file, or of a folder that appears whole, by a hidden file beside it, which goes at the end.

    Raises:
        ValueError: another process holds it, or nothing can be written there.
    """
    make_folder(path.parent)
    with _held_once(path) as first:
        if not first:
            yield
            return
        lock = hidden_beside(path, "lock")
        handle = _opened(lock, path)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # while it is held: who opened it meanwhile finds that it is gone
            os.close(handle)


def _opened(lock: Path, target: Path) -> int:
    """The lock file, held."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            take(handle, target)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), lock.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder removed it


def take(handle: int, target: Path) -> None:
    """Lock an open file or folder until it is closed; where the file system knows no locks, a note says so.

    Raises:
        ValueError: another process holds it; names `target`.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{target} is being worked on by another process. Wait for it, or give another --out."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        if target not in _told:
            _told.add(target)
            logging.getLogger("sparring").warning(
                "note  %s is not locked, as its file system has no locks (%s): start no second command on it.",
                target,
                error.strerror,
            )


def is_held(path: Path) -> bool:
    """Whether another process holds a file's lock."""
    if not path.exists():
        return False
    with path.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False


@contextlib.contextmanager
def _held_once(path: Path) -> Iterator[bool]:
    """Whether the path has yet to be locked in this process; it counts as held inside the block."""
    where = path.resolve()
    if where in _held:
        yield False
        return
    _held.add(where)
    try:
        yield True
    finally:
        _held.discard(where)
