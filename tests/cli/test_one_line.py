"""What a user can break gives one line that names it and exit 2; a fault of ours keeps its traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from command import Ran, sparring

DEEP = "[" * 20_000 + "]" * 20_000
DAMAGED = (b"", b"null", b"[1]", b'{"a": 1}', DEEP.encode(), b"\xff\xfe\x00")


def refused(*words: object) -> str:
    """The one line on stderr with which the command ends."""
    code, _, err = sparring(*words, columns=None)
    lines = err.splitlines()
    assert (code, len(lines)) == (2, 1), err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("file", ["recipe.yaml", "manifest.json", "evaluation/summary.json"])
def test_a_damaged_file_of_a_run_is_named(file: str, finished: Ran, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.out, run)
    verbs: dict[str, list[tuple[object, ...]]] = {
        "recipe.yaml": [("status", run), ("run", finished.recipe, "--out", run)],
        "manifest.json": [("status", run), ("run", finished.recipe, "--out", run), ("export", run)],
        "evaluation/summary.json": [("report", run), ("samples", run), ("compare", run, "--out", tmp_path / "c.html")],
    }
    for content in DAMAGED:
        (run / file).write_bytes(content)
        for words in verbs[file]:
            assert Path(file).name in refused(*words)


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"num_attention_heads": 0}, "num_attention_heads = 0; give a whole number above 0"),
    ({"hidden_size": -4}, "hidden_size = -4"),
    ({"hidden_size": "big"}, "hidden_size = 'big'"),
    ({"num_hidden_layers": 1.5}, "num_hidden_layers = 1.5"),
    ({"num_key_value_heads": 3}, "num_key_value_heads = 3 does not divide"),
    ({"model_type": "nosuch"}, "nosuch"),
    ({"hidden_act": "nosuch"}, "nosuch"),
    ({"rope_parameters": [1]}, "rope_parameters"),
]


@pytest.mark.parametrize(("changes", "message"), CONFIGS, ids=lambda value: str(value)[:30])
def test_a_configuration_that_no_model_can_have(
    changes: dict[str, Any], message: str, tiny_model: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **changes}))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**tiny_recipe, "model": {"path": str(model)}}))
    assert message in refused("run", recipe, "--out", tmp_path / "run")
    assert message in refused("export", model, "--out", tmp_path / "exported")


@pytest.mark.parametrize("content", DAMAGED)
def test_a_configuration_that_is_none(content: bytes, tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "config.json").write_bytes(content)
    assert str(model) in refused("export", model, "--out", tmp_path / "exported")


def test_adapters_without_a_base_or_without_safetensors(tiny_model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = adapter / "adapter_config.json"
    for content in (*DAMAGED, b'{"peft_type": "LORA", "base_model_name_or_path": null}'):
        config.write_bytes(content)
        assert str(config) in refused("export", adapter, "--out", tmp_path / "out")
    config.write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(tiny_model), "r": 2}))
    assert "has no adapter_model.safetensors" in refused("export", adapter, "--out", tmp_path / "out")
    torch.save({}, adapter / "adapter_model.bin")
    assert "pickled weights ['adapter_model.bin']" in refused("export", adapter, "--out", tmp_path / "out")
    shutil.copy(tiny_model / "model.safetensors", adapter / "adapter_model.safetensors")
    config.write_text(json.dumps({"peft_type": "NOSUCH", "base_model_name_or_path": str(tiny_model)}))
    assert "cannot be loaded" in refused("export", adapter, "--out", tmp_path / "out")


def test_names_of_any_length(finished: Ran, tmp_path: Path) -> None:
    fits, long = tmp_path / ("e" * 250), tmp_path / ("n" * 300)
    assert sparring("export", finished.out, "--out", fits).code == 0
    assert sparring("report", finished.out, "--picture", tmp_path / f"{'p' * 246}.svg").code == 0
    for words in (
        ("run", finished.recipe, "--out", long),
        ("export", finished.out, "--out", long),
        ("compare", finished.out, "--out", long),
        ("report", finished.out, "--picture", long),
        ("status", long),
        ("run", long),
    ):
        assert "File name too long" in refused(*words)
    section = "{name: function, path: 'oracle_fakes:more_vowels', unknown: " + "x" * 300 + "}"
    assert "unknown" in refused("oracle", "audit", finished.recipe, "--oracle", section, "--out", tmp_path / "audit")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EISDIR, "Is a directory", "x"), "error: x: Is a directory. It is a folder; give a file."),
        (OSError(errno.ENAMETOOLONG, "too long", ".p", None, "x"), "error: x: too long. Give a shorter name."),
        (OSError("no file named model.safetensors"), "error: no file named model.safetensors"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "error: a text or file name cannot be read .* UTF-8"),
        (RecursionError("maximum depth"), r"error: something that was given is nested too deeply .*, fail\)"),
    ],
)
def test_what_the_system_says(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("sparring.rounds.status.read_status", fail)
    assert re.match(line, refused("status", "run"))


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), OSError(errno.EBADF, "Bad file descriptor")])
def test_faults_of_ours_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("sparring.rounds.status.read_status", fail)
    code, _, err = sparring("status", "run")
    assert code == 1
    assert "Traceback" in err


def test_a_reader_that_goes_away_and_a_full_disk() -> None:
    command = [sys.executable, "-m", "sparring.cli.main", "recipe", "demo"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    end, start = os.pipe()
    os.close(end)
    gone = subprocess.run(command, env=environ, stdout=start, stderr=subprocess.PIPE)
    os.close(start)
    assert (gone.returncode, gone.stderr) == (1, b"")
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            ended = subprocess.run(command, env=environ, stdout=full, stderr=subprocess.PIPE, text=True)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (3, 1)
        assert "the disk is full" in ended.stderr
