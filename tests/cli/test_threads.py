"""Threads that wait do not keep a core for long, unless the user says how they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = (
    "import os, sys; os.cpu_count = lambda: {cores}; import sparring.cli; "
    "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
)


@pytest.mark.parametrize(
    ("given", "cores", "count"),
    [
        ({}, 2, "1000"),
        ({}, 64, "None"),
        ({"GOMP_SPINCOUNT": "7"}, 2, "7"),
        ({"OMP_WAIT_POLICY": "active"}, 2, "None"),
    ],
)
def test_the_command_bounds_how_long_threads_spin_before_torch_is_loaded(
    given: dict[str, str], cores: int, count: str
) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", SHOW.format(cores=cores)]
    found = subprocess.run(command, env=plain | given, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [count, "False"]
