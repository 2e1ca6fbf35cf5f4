"""A lock on an open file or folder that goes with its process, also where the file system knows no locks.

Lustre mounted without `flock`, some NFS and FUSE: there the work goes on without the lock after a note, as a lock file
would stay behind after a kill and stop every later start. Leaves out: what is locked (`rounds/store.py`).

    with path.open("w") as handle: flock(handle.fileno(), path.parent)
"""

from __future__ import annotations

import errno
import fcntl
import logging
from pathlib import Path

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF)
"""what file systems say that have none; NFS says EBADF of a folder, which cannot be opened for writing"""
_told: set[Path] = set()


def flock(handle: int, target: Path) -> None:
    """Lock an open file or folder until it is closed; a note names `target` where that cannot be done.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
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
