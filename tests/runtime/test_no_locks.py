"""Locks, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import logging
import os

import pytest

from sparring.rounds.store import Store
from sparring.runtime import locks


def failing(number: int):
    def call(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_folder_without_locks_is_worked_on_after_one_note(tmp_path, monkeypatch, caplog, number):
    """It ended in a traceback."""
    monkeypatch.setattr(fcntl, "flock", failing(number))
    monkeypatch.setattr(locks, "_told", set())
    with caplog.at_level(logging.WARNING, "sparring"):
        for _ in range(2):
            with Store(tmp_path / "run").locked() as store:
                assert store.root == tmp_path / "run"
    assert len(caplog.messages) == 1
    assert f"note  {tmp_path / 'run'} is not locked" in caplog.text


def test_other_errors_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), Store(tmp_path / "run").locked():
        pass


def test_a_second_holder_is_refused(tmp_path):
    with (tmp_path / "a").open("w") as one, (tmp_path / "a").open("w") as other:
        locks.take(one.fileno(), tmp_path)
        with pytest.raises(ValueError, match="worked on by another process"):
            locks.take(other.fileno(), tmp_path)
