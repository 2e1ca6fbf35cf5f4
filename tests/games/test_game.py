"""Built-in games, files of games and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.games.built_in import built_in
from sparring.games.files import load_game, resolve_game
from sparring.games.game import Game

CYCLE = [[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]


def write(tmp_path, content):
    path = tmp_path / "game.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        load_game(write(tmp_path, content))


# ---------------------------------------------------------------- built in


def test_g3_is_the_published_game():
    game = built_in("G3")
    assert np.array_equal(game.preference[0], CYCLE)
    assert game.reference[0] == pytest.approx([0.581492, 0.288760, 0.129748], abs=5e-7)
    assert -np.log(game.reference.min()) == pytest.approx(2.04216, abs=5e-6)


@pytest.mark.parametrize("spec", ["G3", "GR:5:0", "GBT:5:0", "SB:400:0", "GD"])
def test_built_in_games_are_valid_and_reproducible(spec):
    game, again = built_in(spec), resolve_game(spec)
    assert game.name == spec or spec in ("G3", "GD")
    assert np.array_equal(game.preference, again.preference)
    assert np.array_equal(game.reference, again.reference)
    # Not just to the tolerance: the dynamics rely on a skew payoff.
    assert np.abs(game.preference + game.preference.transpose(0, 2, 1) - 1).max() < 1e-15


@given(n=st.integers(2, 30), seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_random_games_are_valid(n, seed):
    assert built_in(f"GR:{n}:{seed}").n_actions == n
    game = built_in(f"GBT:{n}:{seed}")
    margins = np.log(game.preference[0] / game.preference[0].T)
    rewards = game.rewards[0]
    assert margins == pytest.approx(rewards[:, None] - rewards[None, :], abs=1e-9)


def test_another_seed_gives_another_game():
    assert not np.array_equal(built_in("GR:5:0").preference, built_in("GR:5:1").preference)


def test_sparse_bandit_sees_a_rare_arm_about_one_and_a_half_times():
    game = built_in("SB:400:0")
    assert 2 * 400 * game.data[0, 6:] == pytest.approx(np.full(34, 1.5))
    shares = game.data[0, :6] / game.data[0, :6].sum()
    assert shares == pytest.approx([0.25, 0.15, 0.15, 0.15, 0.15, 0.15])
    assert np.array_equal(game.rewards[0, :6], [3, 2.5, 2, 1.5, 1, 0.5])
    assert game.rewards[0, 6:].min() >= 0
    assert game.rewards[0, 6:].max() <= 2
    # With few pairs the rare arms together hold half the mass.
    assert built_in("SB:10:0").data[0, 6:].sum() == pytest.approx(0.5)


def test_gd_has_no_preference_but_data():
    game = built_in("GD")
    assert (game.preference == 0.5).all()
    assert np.diff(game.log_data[0]) == pytest.approx(np.diff([0.2, 1, -0.3, 0.5, -1]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("GX", "unknown game 'GX'.*built in are G3"),
        ("G33", "did you mean 'G3'"),
        ("GR:5", "gives 1 numbers after GR, needed 2: write GR:n:seed"),
        ("GR:five:0", "n = 'five'; give a whole number"),
        ("GR:1:0", "n = 1; give an integer of at least 2"),
        ("SB:0:0", "n_pairs = 0"),
        ("G3:1", "needed 0: write G3"),
    ],
)
def test_bad_specs_say_what_to_write(spec, message):
    with pytest.raises(ValueError, match=message):
        built_in(spec)


def test_resolve_names_both_ways_when_neither_fits(tmp_path):
    with pytest.raises(ValueError, match=r"neither a file nor a built-in game.*GR:n:seed"):
        resolve_game(tmp_path / "missing.json")


# ---------------------------------------------------------------- files


def test_one_context_file_defaults_to_a_uniform_reference(tmp_path):
    game = resolve_game(write(tmp_path, {"preference": CYCLE}))
    assert np.array_equal(game.preference[0], CYCLE)
    assert game.reference[0] == pytest.approx(np.full(3, 1 / 3))
    assert game.data is None
    assert game.context_weights == pytest.approx([1.0])


def test_contexts_keep_their_policies_and_relative_weights(tmp_path):
    first = {"preference": CYCLE, "reference": [0.2, 0.3, 0.5], "data": [0.5, 0.25, 0.25]}
    second = {"preference": np.full((3, 3), 0.5).tolist(), "data": [0.1, 0.1, 0.8], "weight": 3}
    game = load_game(write(tmp_path, {"contexts": [first, second]}))
    assert game.preference.shape == (2, 3, 3)
    assert game.reference[0] == pytest.approx([0.2, 0.3, 0.5])
    assert game.data[1] == pytest.approx([0.1, 0.1, 0.8])
    assert game.context_weights == pytest.approx([0.25, 0.75])


@given(n=st.integers(2, 6), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_a_written_game_reads_back_exactly(tmp_path_factory, n, seed):
    game = built_in(f"GR:{n}:{seed}")
    content = {"preference": game.preference[0].tolist(), "reference": game.reference[0].tolist()}
    again = load_game(write(tmp_path_factory.mktemp("game"), content))
    assert np.array_equal(again.preference, game.preference)
    assert np.array_equal(again.reference, game.reference)


def test_bad_syntax_names_the_line(tmp_path):
    refused(tmp_path, '{\n"preference": [[0.5,]\n', r"game.json, line 2: not JSON")
    (tmp_path / "game.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_game(tmp_path / "game.json")


def test_wrong_keys_are_named(tmp_path):
    refused(tmp_path, {}, "key 'preference' is missing")
    refused(tmp_path, [1], "top level is a list")
    refused(tmp_path, {"preferences": CYCLE}, "unknown key 'preferences'.*did you mean 'preferenc")
    refused(tmp_path, {"contexts": [], "reference": [1]}, "unknown key 'reference'")
    refused(tmp_path, {"contexts": [{"weight": 1}]}, "context 0: key 'preference' is missing")
    refused(tmp_path, {"contexts": [{"preference": CYCLE, "wieght": 1}]}, "mean 'weight'")


def test_bad_contexts_are_named(tmp_path):
    one = {"preference": CYCLE}
    refused(tmp_path, {"contexts": []}, "contexts is empty")
    refused(tmp_path, {"contexts": {"a": 1}}, "contexts is empty or no list")
    refused(tmp_path, {"contexts": [3]}, "context 0 is 3; give an object")
    refused(tmp_path, {"contexts": [one, {"preference": [[0.5]]}]}, "context 1.*1 x 1, needed 3 x 3")
    refused(tmp_path, {"contexts": [one, one | {"data": [0.2, 0.3, 0.5]}]}, "in every context")
    refused(tmp_path, {"contexts": [one | {"weight": 0}]}, "weight = 0.0; give a number above 0")
    refused(tmp_path, {"contexts": [one | {"weight": "x"}]}, "weight.*'x'; give a number")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0.5, 0.5], [0.5]], "row 1 has 1 entries and row 0 has 2"),
        ([[0.5, 0.5]], "1 x 2, needed 1 x 1: square"),
        ([], "must be a list of rows"),
        ([[]], "1 x 0"),
        ([0.5], "must be a list of rows"),
        ([[0.5, "a"], [0.5, 0.5]], "row 0, entry 1 is 'a'; give a number"),
        ([[0.5, True], [False, 0.5]], "entry 1 is True"),
        ([[0.5, None], [0.5, 0.5]], "entry 1 is None"),
        ([[0.5, float("nan")], [0.5, 0.5]], "finite"),
        ([[0.5, float("inf")], [0.5, 0.5]], "finite"),
        ([[0.5, 10**400], [0.5, 0.5]], "not a rectangular table of numbers"),
        ([[0.5, 1.2], [-0.1, 0.5]], r"P\[0\]\[1\] = 1.2 lies outside \[0, 1\]"),
        ([[0.5, 0.7], [0.3, 0.6]], r"P\[1\]\[1\] = 0.6; an action ties with itself, give 0.5"),
        ([[0.5, 0.7], [0.4, 0.5]], r"P\[0\]\[1\] = 0.7 and P\[1\]\[0\] = 0.4 sum to 1.1.*= 0.3"),
    ],
)
def test_bad_matrices_are_refused(tmp_path, matrix, message):
    refused(tmp_path, {"preference": matrix}, message)


def test_the_worst_pair_is_named(tmp_path):
    matrix = [[0.5, 0.6, 0.5], [0.401, 0.5, 0.9], [0.5, 0.2, 0.5]]
    refused(tmp_path, {"preference": matrix}, r"P\[1\]\[2\] = 0.9 and P\[2\]\[1\] = 0.2")


def test_rounding_is_no_mistake(tmp_path):
    load_game(write(tmp_path, {"preference": [[0.5, 0.3 + 5e-10], [0.7, 0.5]]}))
    refused(tmp_path, {"preference": [[0.5, 0.3 + 5e-9], [0.7, 0.5]]}, "must sum to 1")


@pytest.mark.parametrize("field", ["reference", "data"])
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([0.5, 0.5], "has 2 entries, needed 3"),
        ([], "has 0 entries, needed 3"),
        ([0.5, 0.5, 0.0], "entry 2 is 0.0; every entry must be above 0"),
        ([0.7, 0.5, -0.2], "entry 2 is -0.2"),
        ([0.5, 0.3, 0.3], "sums to 1.1; divide it by its sum"),
        ("uniform", "must be a list of numbers"),
    ],
)
def test_bad_policies_are_refused(tmp_path, field, policy, message):
    refused(tmp_path, {"preference": CYCLE, field: policy}, f"{field}.*{message}")


# ---------------------------------------------------------------- made in code


def test_a_game_made_in_code_is_checked_too():
    half, uniform, one = np.full((1, 2, 2), 0.5), np.full((1, 2), 0.5), np.ones(1)
    assert Game("ok", half, uniform, None, None, one).n_contexts == 1
    with pytest.raises(ValueError, match=r"bad: preference has shape \(2, 2\)"):
        Game("bad", half[0], uniform, None, None, one)
    with pytest.raises(ValueError, match="preference is empty"):
        Game("bad", np.zeros((0, 2, 2)), uniform, None, None, one)
    with pytest.raises(ValueError, match=r"bad: reference has shape \(2, 2\), needed \(1, 2\)"):
        Game("bad", half, np.full((2, 2), 0.5), None, None, one)
    with pytest.raises(ValueError, match="bad: rewards has shape"):
        Game("bad", half, uniform, None, np.zeros((1, 3)), one)
    with pytest.raises(ValueError, match="context_weights of context 0 sums to 2"):
        Game("bad", half, uniform, None, None, np.array([2.0]))
    with pytest.raises(ValueError, match="not a rectangular table of numbers"):
        Game("bad", [[[0.5, 0.5], [0.5]]], uniform, None, None, one)


def test_arrays_are_copied_and_frozen():
    reference = np.full((1, 2), 0.5)
    game = Game("frozen", np.full((1, 2, 2), 0.5), reference, None, None, np.ones(1))
    reference[0, 0] = 0.9
    assert game.reference[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        game.reference[0, 0] = 0.9


def test_a_game_without_data_says_which_have_some():
    with pytest.raises(ValueError, match="G3 has no data policy; use GD or SB"):
        _ = built_in("G3").log_data
