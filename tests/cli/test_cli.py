"""The verbs of the command line on a finished and on an unfinished run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from command import Ran, sparring
from sparring.algorithms.algorithm import SHIPPED
from sparring.cli.main import app
from sparring.recipe.reading import load_recipe, shipped_recipes
from sparring.rounds.store import Store
from sparring.runtime.files import read_table

VERBS = {"init", "plan", "run", "status", "report", "samples", "compare", "collect", "export"}
VERBS |= {"algorithms", "recipe", "certify", "doctor", "evaluate", "oracle", "bench", "study", "serve", "votes"}


def test_a_run_prints_plain_progress_lines_and_a_table(finished: Ran) -> None:
    lines = finished.printed.splitlines()
    assert "data  6 training examples, 3 held out" in lines
    for start in (
        "round 1/1  sample own from start  24/24",
        "round 1/1  judge  6/6",
        "round 1/1  anchor start  6/6",
        "round 1/1  fit  2/2",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert any(line.startswith("round 1/1  pair: ") for line in lines)
    assert any("function" in line and "%" in line for line in lines)
    assert any("rule checks passed" in line for line in lines)
    assert f"report: {finished.out}/report.html" in lines
    assert f"policy: {finished.out}/rounds/000/policy (also {finished.out}/final)" in lines
    assert (finished.out / "final").samefile(finished.out / "policy-1")
    assert "\x1b" not in finished.printed
    assert (finished.out / "rounds/000/policy/model.safetensors").exists()


def test_run_json_is_json_alone(finished: Ran) -> None:
    code, out, err = sparring("run", finished.recipe, "--out", finished.out, "--set", "rounds=1", "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary.keys() == {"name", "headline", "judgments", "checks", "warnings"}
    assert summary["name"] == "run"
    assert summary["headline"]["prompts"] == 3
    assert "finished on " in err
    assert "nothing to do; --set rounds=2" in err
    assert "pair:" not in err


def test_the_default_folder_is_named_after_the_recipe(
    finished: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished.out, tmp_path / "runs/mine")
    code, out, _ = sparring("run", finished.recipe, "--set", "rounds=1")
    assert code == 0
    assert "report: runs/mine/report.html" in out.splitlines()


def test_an_oracle_beside_the_recipe_is_found(finished: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_judge.py").write_text("def longer(prompt, a, b):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    path = "oracle.path=my_own_judge:longer"
    code, _, err = sparring("run", finished.recipe, "--out", tmp_path / "r", "--set", path)
    assert code == 2
    assert "no training pair is left: 6 x tie" in err


def test_status_of_a_finished_run(finished: Ran) -> None:
    code, out, _ = sparring("status", finished.out)
    assert code == 0
    state, result, report, policy = out.splitlines()[:4]
    assert state.startswith("finished: inpo, 1 of 1 rounds fitted, ")
    assert re.match(r"result: .*: wins \d", result)
    assert (report, policy) == (f"report: {finished.out / 'report.html'}", f"policy: {finished.out}/rounds/000/policy")
    for stage in ("data", "round 1  sample", "round 1  fit", "evaluation  summary"):
        assert stage in out
    assert re.search(r": wins \d+\.\d% ", out)
    assert re.search(r"responses, 1 policy\n", out)
    assert "logp_check" not in out
    assert "logp_check" in sparring("status", finished.out, "--verbose").out
    plain = json.loads(sparring("status", finished.out, "--json").out)
    assert plain["finished"] is True
    assert plain["rounds"] == 1
    assert plain["stages"]["rounds/000/fit"]["facts"]["steps"] == 2


def test_status_of_an_unfinished_run(finished: Ran, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)
    manifest = json.loads((out / "manifest.json").read_text())
    kept = {key: manifest[key] for key in ("data", "rounds/000/sample")}
    (out / "manifest.json").write_text(json.dumps(kept))
    (out / "rounds/000/verdicts.partial").mkdir()
    printed = sparring("status", out).out
    assert "round 1  sample" in printed
    assert "evaluation  summary" not in printed
    assert printed.startswith("not finished: inpo, 0 of 1 rounds fitted, ")
    assert "next: round 1/1  judge; give the same `sparring run` command" in printed
    assert "half done: rounds/000/verdicts.partial" in printed
    plain = json.loads(sparring("status", out, "--json").out)
    assert (plain["finished"], list(plain["stages"])) == (False, list(kept))


def test_a_run_whose_rounds_were_raised_is_not_finished(finished: Ran, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    (out / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "rounds": 2}))
    assert "not finished: inpo, 1 of 2 rounds fitted" in sparring("status", out).out
    assert json.loads(sparring("status", out, "--json").out)["finished"] is False


def test_report_writes_the_page_and_the_picture(finished: Ran, tmp_path: Path) -> None:
    page = finished.out / "report.html"
    page.unlink()
    picture = tmp_path / "headline.svg"
    code, out, _ = sparring("report", finished.out, "--picture", picture)
    assert (code, out.strip()) == (0, str(page))
    assert page.read_text().startswith("<!")
    assert "<svg" in picture.read_text()


def test_samples_shows_held_out_answers(finished: Ran) -> None:
    code, out, _ = sparring("samples", finished.out, "--count", 2)
    assert code == 0
    for word in ("Say yak", "Say gnu", "start", "final"):
        assert word in out
    assert "Say hen" not in out
    rows = json.loads(sparring("samples", finished.out, "--json").out)
    assert [row["prompt"] for row in rows] == ["Say yak", "Say gnu", "Say hen"]
    assert all(len(row["start"]) == len(row["final"]) == 2 for row in rows)


def test_samples_shows_what_a_run_that_goes_on_trains_on(finished: Ran, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)
    (out / "evaluation/summary.json").unlink()
    rows = json.loads(sparring("samples", out, "--count", "2", "--json").out)
    sampled = read_table(out / "rounds/000/samples.parquet")
    assert len(rows) == 2
    assert {row["stage"] for row in rows} == {"round 1"}
    assert {len(row["answers"]) for row in rows} == {len(sampled) // len({row["example"] for row in sampled})}
    first = rows[0]["answers"][0]
    assert first == {"policy": "start", "text": sampled[0]["text"]}
    assert sparring("samples", out).out.startswith("not finished: the responses that round 1 trains on\n\n")
    (out / "manifest.json").write_text("{}")
    assert "has no samples yet" in sparring("samples", out).err


def test_samples_answers_given_prompts(finished: Ran) -> None:
    words = ("samples", finished.out, "--prompt", "Say [bold]emu", "--prompt", "Say owl")
    rows = json.loads(sparring(*words, "--json").out)
    assert [row["prompt"] for row in rows] == ["Say [bold]emu", "Say owl"]
    assert all(len(row["start"]) == len(row["final"]) == 1 for row in rows)
    assert json.loads(sparring(*words, "--json").out) == rows
    assert sparring(*words).code == 0


@pytest.mark.parametrize("verb", ["status", "report", "samples"])
def test_a_folder_that_is_no_run(verb: str, tmp_path: Path) -> None:
    code, out, err = sparring(verb, tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path} ")


def test_algorithms() -> None:
    rows = json.loads(sparring("algorithms", "--json").out)
    assert rows.keys() == SHIPPED.keys()
    for about in rows.values():
        assert about.keys() == {"title", "paper", "anchors", "samples", "pairing", "loss", "needs"}
        assert all(about.values())
    printed = sparring("algorithms").out
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(SHIPPED)
    assert max(map(len, lines)) <= 80
    assert "reference tau/eta" in sparring("algorithms", "inpo").out
    assert json.loads(sparring("algorithms", "inpo", "--json").out) == {"inpo": rows["inpo"]}
    assert "Did you mean 'inpo'" in sparring("algorithms", "inop").err


def test_recipes_are_listed_and_printed() -> None:
    listed = sparring("recipe").out.splitlines()
    assert [line.split()[0] for line in listed] == list(shipped_recipes())
    assert all(len(line.split()) > 3 for line in listed)
    for name, path in shipped_recipes().items():
        assert sparring("recipe", name).out == path.read_text()
        load_recipe(name)
    code, _, err = sparring("recipe", "dmo")
    assert code == 2
    assert "no shipped recipe 'dmo'. Did you mean 'demo'? Shipped: aloe, demo" in err


def test_what_is_no_recipe_s_file_is_said(finished: Ran, tmp_path: Path) -> None:
    assert "'inpoo' does not exist. Did you mean 'inpo'?" in sparring("run", "inpoo").err
    assert f"'{tmp_path}' is a folder. Give a recipe's file" in sparring("run", tmp_path).err
    assert f"'{finished.out}' is a folder. Give '{finished.out / 'recipe.yaml'}'" in sparring("plan", finished.out).err


def test_help() -> None:
    outcome = sparring("--help")
    assert outcome.code == 0
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == VERBS
    for verb, command in commands.items():
        assert verb in outcome.out
        assert len(command.help) > 20
        for parameter in command.params:
            assert parameter.name == "help" or parameter.help, (verb, parameter.name)
        assert sparring(verb, "--help").code == 0
        for name, inner in getattr(command, "commands", {}).items():
            assert all(p.name == "help" or p.help for p in inner.params), (verb, name)
            assert sparring(verb, name, "--help").code == 0


def test_an_unknown_verb_or_option_exits_with_2() -> None:
    assert sparring("rnu").code == 2
    assert sparring("algorithms", "--jsn").code == 2


def test_the_version_and_the_module_form() -> None:
    import sparring as package

    ran = subprocess.run([sys.executable, "-m", "sparring", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"sparring {package.__version__}\n"


def test_check_tries_everything_and_keeps_nothing(finished: Ran, tmp_path: Path) -> None:
    code, out, _ = sparring("run", finished.recipe, "--out", tmp_path / "run", "--check")
    assert code == 0
    assert "data  6 training examples, 3 held out" in out
    assert "warning  a round is only" in out
    assert out.rstrip().endswith(f"ready: sparring run {finished.recipe} --out {tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()
    code, _, err = sparring("run", finished.recipe, "--check", "--set", "model.path=nowhere")
    assert code == 2
    assert "nowhere" in err


def test_status_loads_no_torch(finished: Ran) -> None:
    code = "import sys\nfrom sparring.rounds.status import read_status\nfrom pathlib import Path\n"
    code += f"assert read_status(Path({str(finished.out)!r})).finished\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_schema_of_recipes_names_every_section() -> None:
    schema = json.loads(sparring("recipe", "--schema").out)
    assert {"model", "data", "algorithm", "oracle", "fit", "evaluation"} <= schema["properties"].keys()
    assert schema["$defs"]["FitConfig"]["properties"]["batch_size"]["minimum"] == 1


def test_status_of_a_run_that_is_worked_on(finished: Ran, tmp_path: Path) -> None:
    shutil.copytree(finished.out, tmp_path / "run")
    (tmp_path / "run/evaluation/summary.json").unlink()
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    del manifest["evaluation/summary"]
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    with Store(tmp_path / "run").locked():
        out = sparring("status", tmp_path / "run").out
        assert out.startswith("running now: inpo")
        assert "now: evaluation  summary" in out
        assert "give the same" not in out
    assert sparring("status", tmp_path / "run").out.startswith("not finished: inpo")


def test_a_refused_start_leaves_the_recipe(finished: Ran, tmp_path: Path) -> None:
    """It had raised `rounds` already, so that export and head-to-head looked for a policy that nobody made."""
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)
    before = (out / "recipe.yaml").read_bytes()
    config = out / "rounds/000/policy/config.json"
    config.write_text(config.read_text().replace("{", '{"other": 1,', 1))
    code, _, err = sparring("run", finished.recipe, "--out", out, "--set", "rounds=2")
    assert (code, "was altered" in err) == (2, True)
    assert (out / "recipe.yaml").read_bytes() == before


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("verb", ["run", "collect"])
def test_a_first_start_that_is_refused_leaves_nothing(
    verb: str, there: bool, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """It had left recipe.yaml and run.lock, so that other verbs took the folder for a run."""
    recipe, out = tmp_path / "mine.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump({**tiny_recipe, "oracle": {"name": "function", "path": "oracle_fakes:nan"}}))
    if there:
        out.mkdir()
    code, _, err = sparring(verb, recipe, "--out", out)
    assert (code, "no preference came of" in err) == (3, True), err
    assert list(out.iterdir()) == [] if there else not out.exists()


def test_rounds_may_go_back_to_what_is_fitted(finished: Ran, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    (out / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "rounds": 2}))
    assert "has no policy 2 yet: finish it" in sparring("samples", out, "--prompt", "Say ant").err
    assert sparring("run", finished.recipe, "--out", out, "--set", "rounds=1").code == 0
