"""A result as it is stored: plain JSON that names its files by their hashes, and the version that made it.

store_result({"win_rate": 0.6}, [Path("answers.jsonl")], Path("out"))  # writes out/result.json
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def store_result(result: Mapping[str, Any], files: Sequence[Path], out: Path | None) -> dict[str, Any]:
    """`result` with the hashes of the files that it came from; where there is `out`, stored as `out`/result.json."""
    from sparring import __version__

    # Here, since they load pyarrow and every verb loads this module.
    from sparring.runtime.files import write_json
    from sparring.runtime.locks import locked_folder

    stored = finite({**result, "files": hashes(files), "sparring_version": __version__})
    if out is not None:
        with locked_folder(out):
            write_json(out / "result.json", stored)
    return stored


def finite(value: Any) -> Any:
    """Plain data: dataclasses as objects of their fields, null for numbers that are not finite."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def hashes(files: Sequence[str | Path]) -> dict[str, str]:
    """SHA-256 by file; a name that is no file here (a hub's or a shipped data set) is left out."""
    from sparring.runtime.files import hash_file

    return {str(path): hash_file(Path(path)) for path in files if Path(path).is_file()}
