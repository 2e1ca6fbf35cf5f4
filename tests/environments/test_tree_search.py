"""UCT against exact values, and what a language model's search asks, trains and measures."""

from __future__ import annotations

import random
import re

import pytest

from environment_fakes import play_out
from sparring.certificates.claims import tree_search
from sparring.certificates.claims.check import check
from sparring.certificates.claims.tree_search import Errors, curve, positions
from sparring.environments.environment import Ask, Outcome, Reply, build_environment
from sparring.environments.searched_game import NO_PROPOSAL, SearchedPosition, SearchOpponent, read_value
from sparring.environments.sequential import ILLEGAL
from sparring.environments.tic_tac_toe import TicTacToe
from sparring.environments.tree_search import Estimate, loss_of, run_search, solved

GAME = TicTacToe(rules=False)
EXACT = solved(GAME)


def blind(state: str) -> Estimate:
    """All moves, and no idea of the value."""
    return Estimate(GAME.legal(state), 0.0)


@pytest.mark.parametrize(
    ("state", "worth"),
    [("." * 9, 0.0), ("xx.oo....", 1.0), ("x...o....", 0.0), ("xo.......", 1.0)],
)
def test_exact_values_are_those_of_the_mover(state: str, worth: float) -> None:
    assert EXACT(state) == worth


def test_a_move_loses_what_it_gives_away() -> None:
    assert loss_of(GAME, EXACT, "xx.oo....", "3") == 0.0
    assert loss_of(GAME, EXACT, "xx.oo....", "9") == 2.0  # o wins in the middle
    assert loss_of(GAME, EXACT, "." * 9, "5") == 0.0


def test_blind_search_finds_wins_and_blocks() -> None:
    assert run_search(GAME, "xx.oo....", blind, 60).most_visited == "3"
    assert run_search(GAME, "x...o...x", blind, 400).most_visited in "2468"  # a corner loses
    root = run_search(GAME, "xx.oo....", blind, 60)
    assert root.visits == 61
    assert sum(child.visits for child in root.children.values()) == 60
    assert root.worst != root.most_visited


def test_search_is_a_pure_function_of_what_the_guide_says() -> None:
    a, b = (run_search(GAME, "x...o....", blind, 40) for _ in range(2))
    assert {m: c.visits for m, c in a.children.items()} == {m: c.visits for m, c in b.children.items()}


def test_errors_of_the_guide_bound_the_value_and_more_simulations_shrink_its_error() -> None:
    chosen = positions(12)
    exact = curve(Errors(0.0, 9), chosen, (4, 64))
    assert exact.pruner_error == 0.0
    assert exact.value_error[1] < exact.value_error[0]
    assert max(exact.excess(0.0)) <= 1.0
    pruned = curve(Errors(0.5, 2, 1.0), chosen, (64,))
    assert pruned.moves == 2.0
    assert pruned.value_error[0] <= pruned.pruner_error + 0.5 + 2 / 8


def tic_tac_toe(ask: Ask, k: int) -> str:
    """Proposes free squares from the left and one that is none; sees a draw everywhere."""
    said = ask.messages[-1]["content"]
    if ask.role == "valuer":
        return "draw"
    free = [
        str(place + 1) for place, mark in enumerate(re.findall(r"[xo.](?= |$)", said, re.MULTILINE)[-9:]) if mark == "."
    ]
    return [*free, "0"][min(k, len(free))]


def test_the_most_visited_and_the_worst_proposal_are_trained_and_nothing_else() -> None:
    environment = SearchedPosition(game={"name": "tic_tac_toe", "rules": False}, simulations=12, proposals=9, opening=4)
    asks, texts, outcomes = play_out(environment, tic_tac_toe, seed=3)
    assert [ask.role for ask in asks[:2]] == ["proposer", "valuer"]
    assert 2 < len(asks) <= 2 * 13
    rewards = [outcome.reward for outcome in outcomes[0]]
    assert rewards.count(1.0) == 1
    assert {o.kind for o, text in zip(outcomes[0], texts[0], strict=True) if text == "0"} == {ILLEGAL}
    assert all(o.reward == -1.0 for o, text in zip(outcomes[0], texts[0], strict=True) if text == "0")
    assert all(o.reward is None for group in outcomes[2:] for o in group)


def test_a_position_is_examined_by_the_exact_loss_of_its_moves() -> None:
    environment = SearchedPosition(game={"name": "tic_tac_toe", "rules": False}, simulations=12, proposals=9)
    play = environment.examine
    shown = type("Shown", (), {"play": lambda self, task, seed: play(task, seed)})()
    asks, texts, outcomes = play_out(shown, tic_tac_toe, seed=3)
    board = asks[0].messages[-1]["content"].replace("\n", " ").replace(" ", "")
    for text, outcome in zip(texts[0], outcomes[0], strict=True):
        assert outcome.reward == (-1.0 if text == "0" else 1.0 - loss_of(GAME, EXACT, board, text))
    rows = [(asks[0].role, t, o.reward, o.kind) for t, o in zip(texts[0], outcomes[0], strict=True)]
    measures = environment.measure([rows])
    assert set(measures) == {"suboptimality, model alone", "suboptimality, 12 simulations"}
    assert measures["suboptimality, model alone"] >= measures["suboptimality, 12 simulations"]


def test_without_a_legal_proposal_all_moves_are_searched_and_that_is_counted() -> None:
    environment = SearchedPosition(simulations=2, proposals=2)
    _, _, outcomes = play_out(environment, lambda ask, k: "?")
    assert outcomes[0] == [Outcome(-1.0, ILLEGAL)] * 2
    assert outcomes[1] == [Outcome(-1.0, "unreadable")]
    assert outcomes[2][0] == Outcome(None, NO_PROPOSAL)


def test_the_game_s_examples_are_shown_to_proposer_and_valuer() -> None:
    environment = SearchedPosition(game={"name": "tic_tac_toe", "examples": 3, "list_moves": True}, simulations=1)
    asks, _, _ = play_out(environment, lambda ask, k: "1" if ask.role == "proposer" else "draw", seed=2)
    for ask in asks:
        answers = [message["content"] for message in ask.messages if message["role"] == "assistant"]
        assert len(answers) == 3
        words = {"win", "draw", "lose"} if ask.role == "valuer" else set("123456789")
        assert set(answers) <= words
    assert "Your moves: " in asks[0].messages[-1]["content"]
    assert "Your moves: " not in asks[1].messages[-1]["content"]


def test_a_random_player_does_not_beat_a_search() -> None:
    rng = random.Random(0)

    def answer(ask: Ask, k: int) -> str:
        if ask.role == "valuer":
            return "draw"
        said = ask.messages[-1]["content"]
        marks = re.findall(r"[xo.](?= |$)", said, re.MULTILINE)[-9:]
        free = [str(place + 1) for place, mark in enumerate(marks) if mark == "."]
        return rng.choice(free) if ask.role == "player" else free[k % len(free)]

    environment = SearchOpponent(game={"name": "tic_tac_toe", "rules": False}, simulations=40, proposals=9)
    episodes = []
    for seed in range(8):
        asks, texts, outcomes = play_out(environment, answer, seed=seed)
        rows = zip(asks, texts, outcomes, strict=True)
        episodes.append([(a.role, t[0], o[0].reward, o[0].kind) for a, t, o in rows])
    measures = environment.measure(episodes)
    assert measures["won"] <= 0.25
    assert sum(measures.values()) == pytest.approx(1.0)
    _, _, outcomes = play_out(environment, lambda ask, k: "?", seed=1)
    assert outcomes[-1] == [Outcome(-1.0, ILLEGAL)] or outcomes[0] == [Outcome(-1.0, ILLEGAL)]


@pytest.mark.parametrize(("text", "value"), [("Win.", 1.0), ("I will lose", -1.0), ("win or draw", None), ("", None)])
def test_a_value_is_the_only_word_of_three(text: str, value: float | None) -> None:
    assert read_value(Reply(text, True)) == value


@pytest.mark.parametrize(
    ("game", "says"), [("kuhn_poker", "begins by chance"), ("step_critic", "is no game in turns"), ("nim", "unknown")]
)
def test_only_games_of_perfect_information_are_searched(game: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build_environment({"name": "searched_position", "game": {"name": game}})


def test_the_bound_is_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_search, "POSITIONS", 4)
    monkeypatch.setattr(tree_search, "COUNTS", (1, 8))
    claims, _ = check("tree_search", "exact")
    assert [claim.verdict for claim in claims] == ["holds", "measured"] * 4
    assert {claim.algorithm for claim in claims} == {"tree_search"}
