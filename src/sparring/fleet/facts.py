"""What a machine of a cluster is: its code and versions, devices, room and clock; and which differences stop a run.

Leaves out: asking the machines (`cluster.py`), and this machine alone (`runtime/doctor.py`).

    differences(facts(), other)  ->  ["torch 2.12.0 there, 2.13.0 here", ...]
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sparring
from sparring.runtime import gpus
from sparring.runtime.doctor import installed
from sparring.runtime.files import cache_folder

COMPARED = ("torch", "transformers", "tokenizers", "peft", "ray", "numpy")
"""packages whose version decides over results, or over whether processes understand each other"""
SKEW = 5.0
"""seconds that two clocks may be apart before a note says so"""


@functools.cache
def code_hash() -> str:
    """A hash of Sparring's own source files."""
    root = Path(sparring.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def facts() -> dict[str, Any]:
    """Plain data about this machine."""
    import torch

    cache = cache_folder()
    there = next(path for path in (cache, *cache.parents) if path.exists())
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "code": code_hash(),
        "versions": {name: installed(name) for name in COMPARED},
        "gpus": gpus.names(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "threads": torch.get_num_threads(),
        "disk_free": shutil.disk_usage(there).free,
        "shm_free": shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else None,
        "time": time.time(),
    }


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Why a machine cannot work with this one, in words; none where it can."""
    found: list[str] = []
    if ours["code"] != theirs["code"]:
        found.append(f"Sparring's code is {theirs['code']} there and {ours['code']} here")
    for name, version in ours["versions"].items():
        if theirs["versions"][name] != version:
            found.append(f"{name} is {theirs['versions'][name] or 'missing'} there and {version or 'missing'} here")
    return found


def refuse_differences(ours: Mapping[str, Any], by_node: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise a ValueError where a node has other code or versions; names the first one."""
    for node, theirs in by_node.items():
        if lines := differences(ours, theirs):
            raise ValueError(
                f"--cluster: node {node}: {'; '.join(lines)}. Install the same there, and see "
                "`sparring doctor --cluster`."
            )
