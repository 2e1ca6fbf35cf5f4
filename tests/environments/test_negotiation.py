"""A negotiation, SLHF and TextArena: what is paid, counted and bounded."""

from __future__ import annotations

import random
import re

import pytest

from environment_fakes import play_out
from sparring.environments.both_orders import DISAGREE, NO_VERDICT, UNREADABLE
from sparring.environments.environment import Ask, Compare, Outcome, Task, build_environment
from sparring.environments.leader_follower import LeaderFollower, SumLeaderFollower
from sparring.environments.negotiation import Negotiation, Table
from sparring.environments.sequential import ILLEGAL, exploitability, uniform, value

GAME = Negotiation(rules=False)
SMALL = Negotiation(rules=False, goods={"books": 1, "hats": 1}, kinds=[[1, 2], [2, 1]], offers=2)


@pytest.mark.parametrize(
    ("values", "moves", "first"),
    [
        (((1, 2), (2, 1)), ("2-0", "accept"), 2 / 4 - 1 / 5),
        (((1, 2), (2, 1)), ("2-0", "2-1", "accept"), -1.0),
        (((1, 2), (1, 2)), ("0-0", "accept"), -1.0),
        (((1, 2), (1, 2)), ("2-1", "2-1", "2-1", "refuse"), 0.0),
    ],
)
def test_an_agreement_pays_the_own_share_minus_the_other_s(
    values: tuple[tuple[int, ...], ...], moves: tuple[str, ...], first: float
) -> None:
    returns = GAME.returns(Table(values, moves))  # type: ignore[arg-type]
    assert returns == {"first": pytest.approx(first), "second": pytest.approx(-first)}


def test_offers_are_bounded_and_the_first_cannot_be_an_acceptance() -> None:
    ((_, start), *_) = GAME.starts()
    assert GAME.legal(start) == ("0-0", "0-1", "1-0", "1-1", "2-0", "2-1")
    assert GAME.legal(Table(start.values, ("0-0",)))[0] == "accept"
    assert GAME.legal(Table(start.values, ("0-0",) * 3)) == ("accept", "refuse")


def test_it_is_solved_exactly_and_nobody_is_favoured_by_uniform_play_of_equal_values() -> None:
    assert sum(chance for chance, _ in SMALL.starts()) == pytest.approx(1.0)
    gaps = exploitability(SMALL, uniform)
    assert 0 < gaps.exploitability < 1
    assert value(SMALL, uniform, "first") == pytest.approx(-value(SMALL, uniform, "second"))


def test_it_is_played_in_words_and_a_wrong_offer_forfeits() -> None:
    said = iter(["[take 1 0]", "accept"])
    asks, _, outcomes = play_out(Negotiation(), lambda ask, k: next(said), seed=1)
    assert "the other: take 1 0" in asks[1].messages[0]["content"]
    assert outcomes[0][0].reward == pytest.approx(-(outcomes[1][0].reward or 0))
    _, _, outcomes = play_out(Negotiation(), lambda ask, k: "take 9 9", seed=1)
    assert outcomes == [[Outcome(-1.0, ILLEGAL)]]


@pytest.mark.parametrize("fields", [{"goods": {}}, {"goods": {"hats": 0}}, {"kinds": [[0, 0]]}, {"kinds": []}])
def test_a_negotiation_about_nothing_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"environment\.(goods|kinds)"):
        build_environment({"name": "negotiation", **fields})
    with pytest.raises(ValueError, match="one value for each"):
        Negotiation(kinds=[[1]]).starts()


def test_a_follower_sees_the_leader_s_answer_and_is_paid_what_it_adds() -> None:
    def answer(ask: Ask, k: int) -> str:
        said = ask.messages[-1]["content"]
        found = re.search(r"What is (.+?)\?", said)
        assert found is not None
        result = str(eval(found[1]))
        if ask.role == "leader":
            return [result, "7777"][k]
        assert f"Somebody says {[result, '7777']['7777' in said]}," in said
        return [result, "0.5"][k]

    asks, texts, outcomes = play_out(SumLeaderFollower(), answer, seed=4)
    assert [ask.role for ask in asks] == ["leader", "follower", "follower"]
    leaders, right, wrong = outcomes
    assert leaders == [Outcome(0.5, "right"), Outcome(-0.5, "wrong")]
    assert right == [Outcome(0.0, "kept right"), Outcome(-1.0, "spoilt")]
    assert wrong == [Outcome(1.0, "mended"), Outcome(0.0, "left wrong")]
    rows = [
        (a.role, t, o.reward, o.kind)
        for a, ts, os in zip(asks, texts, outcomes, strict=True)
        for t, o in zip(ts, os, strict=True)
    ]
    assert SumLeaderFollower().measure([rows]) == {
        "leader's accuracy": 0.5,
        "follower's accuracy": 0.5,
        "wrong answers mended": 0.5,
        "right answers spoilt": 0.5,
    }


@pytest.mark.parametrize(
    ("judge", "reward", "kinds"),
    [
        (lambda said: "first" if "First answer: better" in said else "second", 1.0, ["", ""]),
        (lambda said: "first", 0.0, [DISAGREE] * 2),
        (lambda said: "neither" if "First answer: better" in said else "second", None, ["", UNREADABLE]),
    ],
)
def test_a_judge_is_asked_in_both_orders(judge: object, reward: float | None, kinds: list[str]) -> None:
    def answer(ask: Ask, k: int) -> str:
        return {"leader": "good", "follower": "better"}.get(ask.role) or judge(ask.messages[0]["content"])  # type: ignore[operator]

    environment = LeaderFollower(followers=1)
    asks, _, outcomes = play_out(environment, answer, count=1, task=Task("a", "Name a bird."))
    assert "good" in asks[1].messages[0]["content"]
    none = NO_VERDICT if reward is None else ""
    assert outcomes[0] == [Outcome(None if reward is None else -reward, none)]
    assert outcomes[1] == [Outcome(reward, none)]
    assert [group[0].kind for group in outcomes[2:]] == kinds


def test_an_oracle_can_compare_leader_and_follower() -> None:
    def answer(ask: Ask, k: int) -> str:
        return {"leader": "good", "follower": ["better", "worse"][k]}[ask.role]

    def judge(one: Compare) -> float | None:
        assert (one.messages, one.a) == ([{"role": "user", "content": "Name a bird."}], "good")
        return {"better": 0.25, "worse": None}[one.b]

    environment = LeaderFollower(judge="oracle")
    task = Task("a", "Name a bird.")
    asks, _, outcomes = play_out(environment, answer, count=1, task=task, judge=judge)
    assert [ask.role for ask in asks] == ["leader", "follower"]
    assert outcomes == [[Outcome(-0.5)], [Outcome(0.5), Outcome(None, NO_VERDICT)]]
    assert environment.unasked == ("judge",)
    assert not LeaderFollower().asks_oracle
    lines = [("leader", "good", -0.5, ""), *(("follower", "", paid, "") for paid in (0.5, -1.0, 0.0, 1.0, None))]
    assert environment.measure([lines]) == {"follower preferred": 0.5, "leader preferred": 0.25}
    assert environment.measure([]) == {}


def arena() -> type:
    pytest.importorskip("textarena", reason="textarena is not installed")
    from sparring.environments.text_arena import TextArena

    return TextArena


def test_textarena_s_games_are_played_and_invalid_moves_counted() -> None:
    environment = arena()(game="TicTacToe-v0")
    said = iter(["[4]", "[4]", "[0]", "[1]", "[2]", "[7]"])  # o takes 4, x tries 4 and takes 0, o 1, x 2, o 7 wins
    state = random.getstate()
    asks, _, outcomes = play_out(environment, lambda ask, k: next(said))
    assert random.getstate() == state
    assert [ask.role for ask in asks] == ["first", "second", "second", "first", "second", "first"]
    assert [group[0].kind for group in outcomes] == ["", ILLEGAL, "", "", "", ""]
    assert [group[0].reward for group in outcomes] == [1.0, -1.0, -1.0, 1.0, -1.0, 1.0]


def test_a_game_of_textarena_is_bounded_and_forfeited_by_invalid_moves() -> None:
    said = iter(["[0]", "[1]"])
    _, _, outcomes = play_out(arena()(turns=2), lambda ask, k: next(said))
    assert outcomes == [[Outcome(0.0, "unfinished")]] * 2
    _, _, outcomes = play_out(arena()(), lambda ask, k: "?")
    assert [group[0] for group in outcomes] == [Outcome(-1.0, ILLEGAL)] * 2


def test_a_game_depends_on_its_seed_alone() -> None:
    environment = arena()(game="KuhnPoker-v0")
    played = []
    for _ in range(2):
        random.random()
        asks, _, _ = play_out(environment, lambda ask, k: "[check]", seed=3)
        played.append([ask.messages[0]["content"] for ask in asks])
    assert played[0] == played[1]


def test_an_unknown_game_of_textarena_is_named() -> None:
    arena()
    with pytest.raises(ValueError, match=r"TextArena has no 'TicTacToe-v7'. It has"):
        build_environment({"name": "text_arena", "game": "TicTacToe-v7"})
