"""Threads that wait do not keep a core for long, unless the user says how they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = "import os, sys; import sparring.cli; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_the_command_bounds_how_long_threads_spin_before_torch_is_loaded(given: dict[str, str], count: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    found = subprocess.run([sys.executable, "-c", SHOW], env=plain | given, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [count, "False"]
