"""Kuhn poker and tic-tac-toe: values and equilibria that are known, and moves as models write them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environment_fakes import play_out
from sparring.environments import sequential
from sparring.environments.kuhn_poker import KuhnPoker
from sparring.environments.sequential import (
    ILLEGAL,
    SequentialGame,
    best_response_value,
    exploitability,
    observations,
    random_game,
    read_move,
    uniform,
    value,
)
from sparring.environments.tic_tac_toe import TicTacToe

KUHN = KuhnPoker(rules=False)


def equilibrium(a: float) -> dict[str, float]:
    """The chance of a bet in the family of equilibria, 0 <= a <= 1/3."""
    return {
        **{"J": a, "Q": 0.0, "K": 3 * a, "J pass bet": 0.0, "Q pass bet": a + 1 / 3, "K pass bet": 1.0},
        **{"J bet": 0.0, "Q bet": 1 / 3, "K bet": 1.0, "J pass": 1 / 3, "Q pass": 0.0, "K pass": 1.0},
    }


@pytest.mark.parametrize("a", [0.0, 0.1, 1 / 3])
def test_the_known_equilibria_of_kuhn_poker_are_worth_minus_one_eighteenth_and_cannot_be_exploited(a: float) -> None:
    bets = equilibrium(a)

    def policy(role: str, told: str, legal: object) -> list[float]:
        return [1 - bets[told], bets[told]]

    assert value(KUHN, policy, "first") == pytest.approx(-1 / 18)
    assert exploitability(KUHN, policy).exploitability == pytest.approx(0.0, abs=1e-12)


def test_uniform_kuhn_poker_loses_what_openspiel_says() -> None:
    assert len(observations(KUHN)) == 12
    assert exploitability(KUHN, uniform).exploitability == pytest.approx(0.458333333, abs=1e-9)
    assert exploitability(KuhnPoker(), uniform) == exploitability(KUHN, uniform)


OPENSPIEL = (0.6031873139251505, 0.5603788305625294, 0.41680695834972664, 0.6870641811185673, 0.442890345964205)
"""`exploitability` of open_spiel 2.0.2 for the policy that bets with chances of `Random(seed)`, in sorted order"""


@pytest.mark.parametrize("seed", range(5))
def test_exploitability_agrees_with_openspiel_on_random_policies(seed: int) -> None:
    rng = random.Random(seed)
    bets = {told: rng.random() for told in sorted(told for _, told in observations(KUHN))}
    gaps = exploitability(KUHN, lambda role, told, legal: [1 - bets[told], bets[told]])
    assert gaps.exploitability == pytest.approx(OPENSPIEL[seed], abs=1e-12)


def test_tic_tac_toe_is_won_against_chance_and_has_5478_positions_of_which_4520_are_played_on() -> None:
    game = TicTacToe()
    assert len(observations(game)) == 4520
    assert value(game, uniform, "first") == pytest.approx(737 / 1260 - 121 / 420)  # won and lost games
    assert best_response_value(game, uniform, "first") == pytest.approx(0.99479, abs=1e-5)
    assert best_response_value(game, uniform, "second") == pytest.approx(0.92487, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("bet", "bet"),
        (" Bet.\n", "bet"),
        ("I think [pass] or rather [bet]", "bet"),
        ("I bet", None),
        ("[fold]", None),
        ("", None),
    ],
)
def test_moves_are_read_whole_or_from_the_last_brackets(text: str, move: str | None) -> None:
    assert read_move(text, ("pass", "bet")) == move


@given(st.integers(0, 10**6), st.lists(st.sampled_from(["pass", "bet", "fold"]), min_size=3, max_size=3))
def test_every_move_of_a_seat_gets_what_the_seat_gets_and_an_illegal_one_forfeits(seed: int, moves: list[str]) -> None:
    said = iter(moves)
    asks, texts, outcomes = play_out(KuhnPoker(), lambda ask, k: next(said), seed)
    by_role = {
        role: {o.reward for a, (o,) in zip(asks, outcomes, strict=True) if a.role == role} for role in KUHN.roles
    }
    assert all(len(rewards) <= 1 for rewards in by_role.values())
    if all(by_role.values()):
        assert sum(next(iter(rewards)) or 0.0 for rewards in by_role.values()) == 0.0
    if texts[-1] == ["fold"]:
        assert outcomes[-1][0] == (-2.0, ILLEGAL)
    else:
        assert abs(outcomes[-1][0].reward or 0.0) in (1.0, 2.0)


@given(st.integers(0, 8), st.booleans(), st.integers(0, 10**6))
def test_examples_show_legal_moves_and_depend_on_what_the_mover_is_told_alone(
    examples: int, listed: bool, seed: int
) -> None:
    game = KuhnPoker(examples=examples, list_moves=listed)
    made, paid = random_game(game, random.Random(seed))
    assert paid == game.returns(game.after(*made[-1]))
    state, _ = made[seed % len(made)]
    *shown, asked = game.question(state)
    told = game.observation(state)
    assert asked["content"] == (f"{told}\nYour moves: {', '.join(game.legal(state))}" if listed else told)
    assert len(shown) == 2 * examples
    for position, move in zip(shown[::2], shown[1::2], strict=True):
        assert (position["role"], move["role"]) == ("user", "assistant")
        legal = {tuple(m) for (_, t), m in observations(game).items() if position["content"].startswith(t)}
        assert any(move["content"] in moves for moves in legal)
    cards, moves = state
    other = {"J", "Q", "K"} - set(cards)
    mine = len(moves) % 2
    swapped = tuple(other.pop() if seat != mine else card for seat, card in enumerate(cards))
    assert game.question((swapped, moves)) == game.question(state)  # the other's card is hidden


def test_a_game_is_measured_by_who_won_it() -> None:
    games = [
        [("first", "bet", 1.0, ""), ("second", "pass", -1.0, "")],
        [("first", "pass", -1.0, ""), ("second", "bet", 1.0, ""), ("first", "pass", -1.0, "")],
        [("first", "fold", -2.0, ILLEGAL)],
        [("first", "pass", 2.0, ""), ("second", "fold", -2.0, ILLEGAL)],
    ]
    assert KUHN.measure(games) == {
        "games won by first": 0.5,
        "games won by second": 0.5,
        "games ended by an illegal reply": 0.5,
    }
    draw = [[("first", "5", 0.0, ""), ("second", "1", 0.0, "")]]
    assert TicTacToe().measure(draw) == dict.fromkeys(KUHN.measure(games), 0.0)
    assert KUHN.measure([]) == {}


def test_without_examples_a_question_is_the_observation() -> None:
    game = TicTacToe()
    assert game.question("." * 9) == [{"role": "user", "content": game.observation("." * 9)}]


def test_chance_comes_from_the_seed_alone() -> None:
    def cards(seed: int) -> str:
        asks, _, _ = play_out(KuhnPoker(), lambda ask, k: "pass", seed)
        return str([ask.messages for ask in asks])

    assert cards(3) == cards(3)
    assert len({cards(seed) for seed in range(60)}) == 6


class Stones(SequentialGame):
    """Three stones, of which any number is taken in turn; who takes the last one wins."""

    def starts(self) -> list[tuple[float, Any]]:
        return [(1.0, (3, "first"))]

    def mover(self, state: Any) -> str | None:
        return state[1] if state[0] else None

    def observation(self, state: Any) -> str:
        return f"{state[0]} stones"

    def legal(self, state: Any) -> list[str]:
        return [str(count) for count in range(1, state[0] + 1)]

    def after(self, state: Any, move: str) -> Any:
        return state[0] - int(move), "second" if state[1] == "first" else "first"

    def returns(self, state: Any) -> dict[str, float]:
        return {"first": -1.0, "second": 1.0} if state[1] == "first" else {"first": 1.0, "second": -1.0}


@pytest.mark.parametrize(
    ("method", "broken", "words"),
    [
        ("starts", lambda self: [(0.5, (3, "first"))], r"starts\(\) gives the chances \[0.5\]"),
        ("starts", lambda self: [(1.5, (2, "first")), (-0.5, (1, "first"))], "add up to 1"),
        ("starts", lambda self: [(float("nan"), (2, "first"))], "add up to 1"),
        ("mover", lambda self, state: "third" if state[0] else None, r"state \(3, 'first'\): mover\(\) gives 'third'"),
        ("legal", lambda self, state: [], r"legal\(\) gives no move"),
        ("observation", lambda self, state: "stones", "cannot tell from it"),
        ("after", lambda self, state, move: state, r"comes back to the state \(3, 'first'\)"),
        ("after", lambda self, state, move: (state[0] + 1, state[1]), "over 50 states, or it never ends"),
        ("returns", lambda self, state: {"first": 1.0}, r"returns\(\) gives \{'first': 1.0\}"),
        ("returns", lambda self, state: {"first": 1.0, "second": float("nan")}, "a number for each of"),
    ],
)
def test_a_game_that_cannot_be_solved_is_refused_with_what_to_mend(
    method: str, broken: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such games hung, were certified with other values, or ended in an error of Python's."""
    monkeypatch.setattr(sequential, "MOST_STATES", 50)
    assert observations(Stones())["second", "2 stones"] == ("1", "2")
    with pytest.raises(ValueError, match=words):
        observations(type("Broken", (Stones,), {method: broken})())
