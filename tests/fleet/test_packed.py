"""Payloads and results as bytes; what another process cannot import goes with them."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from sparring.fleet.join import has_ray
from sparring.fleet.packed import pack, unpack
from sparring.sampling.engine import Request, Response

SCRIPT = """
import sys
from sparring.fleet.packed import pack

class Own:
    def __init__(self):
        self.value = 7

sys.stdout.buffer.write(pack([Own(), lambda: 8]))
"""


@pytest.mark.parametrize("value", [[Request([1, 2], 7)], ([(Response([3], "stop"), "text")], ""), None])
def test_what_is_packed_comes_back(value: object) -> None:
    assert unpack(pack(value)) == value


def test_what_can_be_imported_is_pickled_by_name_alone() -> None:
    requests = [Request([1, 2], seed) for seed in range(32)]
    assert pack(requests) == pickle.dumps(requests, pickle.HIGHEST_PROTOCOL)


@pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'")
def test_classes_and_functions_of_a_script_go_with_it() -> None:
    content = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True).stdout
    own, function = unpack(content)
    assert own.value == 7
    assert function() == 8
