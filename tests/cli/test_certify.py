"""`sparring certify`: tables, JSON, pictures, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from command import sparring
from sparring.algorithms.algorithm import SHIPPED
from sparring.certificates.claims.check import CLAIMS
from sparring.certificates.claims.claim import Check, Claim


def test_the_claims_of_one_algorithm_without_fits():
    code, out, err = sparring("certify", "nash_md", "--player", "exact", "--verbose")
    assert code == 0
    names = ("nash_md_falling_step", "nash_md_fixed_step_bias")
    for word in (*names, "2312.00886", "holds", "3 holds, 0 refuted, 0 measured, 0 FAILS"):
        assert word in out
    assert err.startswith("nash_md: 3 claims")


def test_nothing_checked_is_no_success():
    """It was a table without rows, and exit code 0."""
    code, out, err = sparring("certify", "spac", "--player", "exact")
    assert (code, "claim" in out) == (2, False)
    assert "nothing was checked (checks that need fits: 8 of spac; use --player tabular)" in err
    assert "checks left out" in sparring("certify", "nash_md", "--player", "exact").out


def test_a_claim_that_could_not_be_checked_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    rows = [Claim("name", "a claim", "nowhere", "-", "not played: no data", None, checked=False)]
    monkeypatch.setitem(CLAIMS, "ipo", (Check(lambda effort: rows),))
    outcome = sparring("certify", "ipo")
    assert (outcome.code, "nothing was checked (not played: no data)" in outcome.err) == (2, True)
    rows.append(Claim("other", "a claim", "nowhere", "[1]", "[1]", True))
    out = sparring("certify", "ipo").out
    assert "1 holds, 0 refuted, 0 measured, 0 FAILS, 1 not checked" in out
    assert "name of ipo was not checked: not played: no data" in out


def test_a_system_plays_games_of_its_own():
    outcome = sparring("certify", "arise", "--game", "G3")
    assert (outcome.code, "arise is checked on games of its own: leave out --game" in outcome.err) == (2, True)


def test_a_claim_that_fails_exits_with_1(monkeypatch: pytest.MonkeyPatch):
    row = Claim("name", "a claim", "nowhere", "[1]", "[2]", False)
    monkeypatch.setitem(CLAIMS, "ipo", (Check(lambda effort: [row]),))
    code, out, _ = sparring("certify", "ipo")
    assert code == 1
    assert "FAILS" in out
    assert "[2]" in out


def test_json_of_one_algorithm_on_g3(tmp_path: Path):
    path = tmp_path / "inpo.json"
    words = ("certify", "inpo", "--set", "eta=1", "--set", "tau=1e-1", "--rounds", 4, "--json", path)
    code, out, _ = sparring(*words)
    assert code == 0
    result = json.loads(path.read_text())
    assert (result["game"], result["player"], result["rounds"]) == ("G3", "exact", 4)
    assert result["settings"]["kl_to_reference"] == 0.1
    assert len(result["policy_last"]) == 5
    assert "G3" in out
    printed = sparring(*words[:-1], "-")
    assert json.loads(printed.out) == result


def test_json_of_all_on_a_file_of_two_contexts(tmp_path: Path):
    contexts = [
        {"preference": [[0.5, 0.9], [0.1, 0.5]]},
        {"preference": [[0.5, 0.3], [0.7, 0.5]], "reference": [0.8, 0.2]},
    ]
    game, path = tmp_path / "game.json", tmp_path / "all.json"
    game.write_text(json.dumps({"contexts": contexts}))
    code, out, _ = sparring("certify", "all", "--game", game, "--rounds", 3, "--json", path)
    assert code == 0
    results = json.loads(path.read_text())
    assert results.keys() == SHIPPED.keys()
    assert {name for name, result in results.items() if "skipped" in result} == {
        "spin", "spac", "kto", "space", "t_spin", "tpaw",
    }  # fmt: skip
    assert "add 'data'" in results["spin"]["skipped"]
    assert "spin skipped" in out
    for name in ("comal", "onpo"):
        assert np.array(results[name]["policy_last"]).shape == (4, 2, 2)
        assert np.array(results[name]["equilibrium"]) == pytest.approx(np.array([[1, 0], [0, 1]]), abs=1e-6)
    assert [results[name]["player"] for name in ("inpo", "dpo", "opo")] == ["exact", "tabular", "tabular"]


def test_a_chosen_player_is_used_for_all(tmp_path: Path):
    path = tmp_path / "all.json"
    assert sparring("certify", "all", "--player", "sampled", "--pairs", 50, "--rounds", 1, "--json", path).code == 0
    results = json.loads(path.read_text())
    assert {result["player"] for result in results.values() if "skipped" not in result} == {"sampled"}
    assert "lists are not played" in results["opo"]["skipped"]


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path: Path):
    (tmp_path / "no").touch()
    code, out, err = sparring("certify", "inpo", "--json", tmp_path / "a.json", "--plot", tmp_path / "no" / "a.svg")
    assert (code, out) == (2, "")
    assert "--plot" in err
    assert list(tmp_path.iterdir()) == [tmp_path / "no"]


def test_selected_pairs_are_sampled_and_said():
    code, out, _ = sparring("certify", "ipo", "--set", "pairing=best_worst", "--rounds", 1, "--pairs", 50)
    assert code == 0
    assert "sampled, since pairs of BestWorst" in " ".join(out.split())


def test_every_target_is_marked_by_its_name(tmp_path: Path):
    path = tmp_path / "all.svg"
    assert sparring("certify", "all", "--rounds", 1, "--set", "samples=2", "--plot", path).code == 0
    for label in (">nash<", ">regularised (inpo", 'class="line c0 dash"'):
        assert label in path.read_text()


def test_pictures(tmp_path: Path):
    for name, start in (("a.svg", "<svg"), ("a.html", "<!doctype html>")):
        assert sparring("certify", "comal", "--rounds", 10, "--plot", tmp_path / name).code == 0
        assert (tmp_path / name).read_text().startswith(start)
    assert "Policies on G3" in (tmp_path / "a.svg").read_text()
    assert sparring("certify", "comal", "--game", "GR:4:0", "--plot", tmp_path / "b.svg").code == 0
    assert "Policies" not in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inop",), "Did you mean 'inpo'"),
        (("inpo", "--player", "exakt"), "Did you mean 'exact'"),
        (("inpo", "--rounds", 0), "--rounds 0: give at least 1"),
        (("inpo", "--pairs", 0), "--pairs 0"),
        (("inpo", "--seed", -1), "--seed -1"),
        (("inpo", "--set", "eta"), "write it as symbol=value"),
        (("inpo", "--set", "eta=[1"), "not readable YAML"),
        (("inpo", "--set", "etta=1"), "Did you mean 'eta'"),
        (("inpo", "--set", "eta=1", "--set", "eta=2"), "eta is given twice"),
        (("inpo", "--set", "eta=1", "--set", "step_size=2"), "both give inpo.step_size"),
        (("mnpo", "--set", "lambda=0.5,0.5"), "write lambda=[0.5,0.5]"),
        (("inpo", "--json", f"{__file__}/a.json"), "cannot be made: File exists. Give another --json."),
        (("inpo", "--plot", f"{__file__}/a.svg"), "cannot be made: File exists. Give another --plot."),
        (("inpo", "--json", "."), "is a folder, not a file to write. Give another --json."),
        (("inpo", "--set", "eta=-1"), "give a positive number"),
        (("inpo", "--game", "G4"), "neither a file nor a built-in game"),
        (("inpo", "--game", "GR:5"), "write GR:n:seed"),
        (("inpo", "--plot", "a.png"), "use .svg or .html"),
        (("spin", "--game", "G3"), "add 'data'"),
        (("opo", "--game", "G3", "--player", "exact"), "no closed form"),
        (("all", "--game", "G3", "--set", "nothing=1"), "nothing could be played"),
        (("spin", "--player", "transformer"), "has no data"),
        (("inpo", "--player", "transformer", "--game", "G3"), "a game of its own"),
    ],
)
def test_mistakes_are_explained(words: tuple[object, ...], message: str):
    code, out, err = sparring("certify", *words)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"preference": [[0.5, 0.6], [0.6, 0.5]]}, "they must sum to 1"),
        ({"preference": [[0.5, 0.6, 0.1], [0.4, 0.5]]}, "rows of equal length"),
        ({"preferences": [[0.5]]}, "did you mean 'preference'"),
        ({"preference": [[0.5, 1.2], [-0.2, 0.5]]}, "outside [0, 1]"),
        ({"preference": [[0.5, 0.6], [0.4, 0.5]], "reference": [1.0, 0.0]}, "must be above 0"),
    ],
)
def test_bad_game_files_are_explained(content: dict, message: str, tmp_path: Path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    code, _, err = sparring("certify", "all", "--game", path)
    assert code == 2
    assert message in err


def test_a_byte_order_mark_is_read_and_a_repeated_key_is_not(tmp_path: Path):
    path = tmp_path / "game.json"
    path.write_text('\ufeff{"preference": [[0.5, 0.9], [0.1, 0.5]]}')
    assert sparring("certify", "inpo", "--game", path, "--rounds", 1).code == 0
    path.write_text('{"preference": [[0.5]], "preference": [[0.5]]}')
    code, _, err = sparring("certify", "inpo", "--game", path)
    assert code == 2
    assert "'preference' is given twice" in err


def test_the_transformer_player_lowers_its_gap(tmp_path: Path):
    path = tmp_path / "gap.json"
    words = ("--player", "transformer", "--rounds", 1, "--set", "eta=0.3", "--set", "samples=64", "--json", path)
    code, out, _ = sparring("certify", "inpo", *words)
    result = json.loads(path.read_text())
    assert (code, result["responses"]) == (0, 241)
    assert result["gap"][1] < result["gap"][0]
    assert result["distance_to_exact_step"][0] < result["distance_moved"][0]
    assert "total variation" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--player", "episodes", "--legs", "3:0.1,4"),
            "--legs '4': write ROUNDS:RATE, for example 80:0.002",
        ),
        (("--player", "episodes", "--legs", "1:0.1,1:1e400"), "--legs '1:1e400': write ROUNDS:RATE"),
        (("--player", "episodes", "--legs", "9999999:0.1"), "--legs '9999999:0.1': write ROUNDS:RATE"),
        (("--player", "episodes", "--legs", "3:0"), "--legs '3:0': write ROUNDS:RATE"),
        (("--player", "episodes", "--legs", "0:0.1"), "--legs '0:0.1': write ROUNDS:RATE"),
        (("--player", "episodes", "--legs", "3:0.1", "--rounds", "3"), "both say how many rounds"),
        (("--legs", "3:0.1"), "--legs is of --player episodes; leave it out."),
    ],
)
def test_legs_are_checked_before_anything_is_played(options: tuple[str, ...], said: str):
    code, _, err = sparring("certify", "comal", *options)
    assert (code, said in " ".join(err.split())) == (2, True)
