"""Rewards of the shipped environments on episodes that are spelt out."""

from __future__ import annotations

import random
import re

import pytest

from environment_fakes import play_out
from sparring.environments.arithmetic import Sum, last_number, read_step, read_sum, spoil
from sparring.environments.arithmetic_duel import DRAWN, INVALID, UNREADABLE, ArithmeticDuel
from sparring.environments.document_questions import AGREES, DISAGREES, DocumentQuestions, covers
from sparring.environments.environment import SHIPPED, Ask, Outcome, Task, build_environment
from sparring.environments.matrix_game import MatrixGame
from sparring.environments.sequential import ILLEGAL
from sparring.environments.step_critic import NO_STEP, NOT_WRONG, StepCritic


def test_every_shipped_environment_says_what_it_is() -> None:
    for name in SHIPPED:
        environment = build_environment({"name": name})
        assert environment.about
        assert len(set(environment.roles)) == len(environment.roles) >= 2


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({}, "environment.name: missing. Give one of kuhn_poker"),
        ({"name": "kuhn_pokr"}, "unknown environment 'kuhn_pokr'. Did you mean 'kuhn_poker'?"),
        ({"name": "environment_fakes:worth"}, "is not a subclass of"),
        ({"name": "kuhn_poker", "rule": True}, "rule"),
    ],
)
def test_a_wrong_section_is_named(section: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        build_environment(section)


def test_rock_paper_scissors_pays_each_move_its_mean_against_all_others() -> None:
    said = {"first": ["rock", "paper", "well"], "second": ["Scissors.", "rock", "paper"]}
    _, _, (first, second) = play_out(MatrixGame(), lambda ask, k: said[ask.role][k], count=3)
    assert first == [Outcome(0.0), Outcome(0.0), Outcome(-1.0, ILLEGAL)]
    assert [o.reward for o in second] == pytest.approx([1 / 3, 0.0, 2 / 3])
    assert sum(o.reward or 0 for o in first) == pytest.approx(-sum(o.reward or 0 for o in second))


def line_of(ask: Ask) -> str:
    """The last line of the calculation that a role of SPC sees."""
    return ask.messages[-1]["content"].split("\n\n")[0].splitlines()[-1]


def test_a_sneaky_step_gets_what_its_critics_lose() -> None:
    shown: list[str] = []

    def answer(ask: Ask, k: int) -> str:
        last = line_of(ask)
        if ask.role == "sneaky":
            asked, result = last.split(" = ")
            return [f"{asked} = {int(result) + 1}", last, "1 + 1 = 3", "No idea"][k]
        shown.append(last)
        return ["Correct", "I say: incorrect.", "incorrect", "Hm"][k]

    _, _, (sneaky, right, wrong) = play_out(StepCritic(), answer, seed=5, count=4)
    assert [o.kind for o in sneaky] == ["", NOT_WRONG, NO_STEP, NO_STEP]
    assert [o.reward for o in right] == [1.0, -1.0, -1.0, -1.0]
    assert [o.reward for o in wrong] == [-1.0, 1.0, 1.0, -1.0]
    assert [o.reward for o in sneaky] == [0.0, -1.0, -1.0, -1.0]
    assert int(shown[-1].split(" = ")[1]) == int(shown[0].split(" = ")[1]) + 1


def test_right_and_wrong_steps_are_asked_alike_and_nothing_where_none_is_wrong() -> None:
    def wrong(ask: Ask, k: int) -> str:
        asked, _, result = line_of(ask).partition(" = ")
        return f"{asked} = {int(result) + k}" if ask.role == "sneaky" else "Correct"

    asks, _, outcomes = play_out(StepCritic(critics=2), wrong, count=3)  # the first of three is right
    assert [ask.role for ask in asks] == ["sneaky", *["critic"] * 4]
    assert [group[0].reward for group in outcomes[1:]] == [1.0, 1.0, -1.0, -1.0]
    asks, _, outcomes = play_out(StepCritic(), lambda ask, k: "?", count=3)
    assert [ask.role for ask in asks] == ["sneaky"]
    assert outcomes == [[Outcome(-1.0, NO_STEP)] * 3]


def test_the_critic_is_measured_on_right_and_on_wrong_steps() -> None:
    def answer(ask: Ask, k: int) -> str:
        asked, _, result = line_of(ask).partition(" = ")
        if ask.role == "sneaky":
            return f"{asked} = {int(result) - 2}"
        return ["Correct", "Correct", "Correct", "Incorrect"][k]

    asks, texts, outcomes = play_out(StepCritic(critics=4), answer, count=1)
    rows = [
        (ask.role, text, o.reward, o.kind)
        for ask, group, given in zip(asks, texts, outcomes, strict=True)
        for text, o in zip(group, given, strict=True)
    ]
    measures = StepCritic().measure([rows])
    assert measures == {
        "accuracy on right steps": 0.75,
        "accuracy on wrong steps": 0.25,
        "harmonic mean": pytest.approx(0.375),
    }
    assert StepCritic().measure([]) == {}


def trusting(ask: Ask, k: int) -> str:
    """A critic who believes every second time that a step is right, and a writer of right steps."""
    return line_of(ask) if ask.role == "sneaky" else ["Correct", "Incorrect"][k % 2]


def test_a_critic_is_examined_on_steps_that_no_writer_wrote() -> None:
    asks, texts, outcomes = play_out(StepCritic(critics=4), trusting, count=3, examines=True)
    assert [ask.role for ask in asks] == ["sneaky", "critic", "critic"]
    assert [o.kind for o in outcomes[0]] == [NOT_WRONG] * 3
    (right, said), (same, spoilt) = (line_of(ask).split(" = ") for ask in asks[1:])
    assert right == same
    asked = read_sum(right)
    assert asked is not None
    assert int(said) == asked.result != int(spoilt)
    assert [o.reward for o in outcomes[1]] == [1.0, -1.0, 1.0, -1.0]
    assert [o.reward for o in outcomes[2]] == [-1.0, 1.0, -1.0, 1.0]
    groups = zip(asks, texts, outcomes, strict=True)
    rows = [(a.role, text, o.reward, o.kind) for a, group, os in groups for text, o in zip(group, os, strict=True)]
    assert StepCritic().measure([rows]) == {
        "accuracy on right drawn steps": 0.5,
        "accuracy on wrong drawn steps": 0.5,
        "harmonic mean, drawn": 0.5,
    }


def test_a_critic_plays_alone_where_chance_makes_mistakes() -> None:
    game = StepCritic(mistakes="chance", critics=2)
    assert game.unasked == ("sneaky",)
    assert StepCritic().unasked == ()
    asks, _, outcomes = play_out(game, trusting, count=3)
    assert [ask.role for ask in asks] == ["critic", "critic"]
    assert [[o.reward for o in group] for group in outcomes] == [[1.0, -1.0], [-1.0, 1.0]]
    exam, _, outcomes = play_out(game, trusting, count=3, examines=True)
    assert [[o.reward for o in group] for group in outcomes] == [[1.0, -1.0], [-1.0, 1.0]]
    assert exam == play_out(StepCritic(critics=2), trusting, count=3, examines=True)[0][1:]
    assert exam != asks


@pytest.mark.parametrize("result", [0, 7, 10, 34, -5, -20, 100])
def test_a_spoilt_result_is_wrong_in_one_digit(result: int) -> None:
    spoilt = {spoil(random.Random(seed), result) for seed in range(500)}
    digits = str(abs(result))
    assert all(sum(a != b for a, b in zip(str(abs(one)), digits, strict=True)) == 1 for one in spoilt)
    assert all(one * result >= 0 for one in spoilt)
    assert len(spoilt) == (9 if len(digits) == 1 else 8 + 9 * (len(digits) - 1))


@pytest.mark.parametrize(
    ("credit", "right", "paid"),
    [
        ("r_zero", [True, False], 1.0),
        ("r_zero", [True, True, True, False], 0.5),
        ("absolute_zero", [True, True, True, False], 0.25),
        ("absolute_zero", [False, False], 0.0),
        ("gaussian", [True, False], 1.0),
        ("gaussian", [True, True, False, False, False, False], pytest.approx(0.606530660)),
        ("gaussian", [True], 0.0),
    ],
)
def test_challengers_are_paid_as_the_papers_say(credit: str, right: list[bool], paid: float) -> None:
    assert build_environment({"name": "arithmetic_duel", "credit": credit}).pay(right) == paid  # type: ignore[attr-defined]


def test_only_valid_sums_are_asked_and_code_checks_the_answers() -> None:
    def answer(ask: Ask, k: int) -> str:
        if ask.role == "challenger":
            return ["What is 12 + 30?", "100 + 1", "no", "2 * 3"][k]
        return ["42", "It is 42.", "43", "many"][k]

    asks, _, (challenger, solver) = play_out(ArithmeticDuel(), answer, count=4)
    assert [ask.role for ask in asks] == ["challenger", "solver"]
    assert challenger == [Outcome(1.0), *[Outcome(-1.0, INVALID)] * 3]
    assert solver == [Outcome(1.0), Outcome(1.0), Outcome(0.0), Outcome(0.0, UNREADABLE)]


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("23 - 6 = 16.", (Sum(23, "-", 6), 16)),
        ("12*-3=-36", (Sum(12, "*", -3), -36)),
        ("1 + 2 + 3 = 6", None),
        ("12.5 + 3 = 15", None),
        ("1 + 2 = 3.5", None),
        ("1 + 2 = 3, 2 + 2 = 4", None),
    ],
)
def test_only_a_single_sum_with_its_result_is_a_step(text: str, step: tuple[Sum, int] | None) -> None:
    assert read_step(text) == step


def test_the_last_number_counts_also_as_a_decimal() -> None:
    assert last_number("First 3, so it is 1,029.0.") == 1029
    assert last_number("none") is None


def test_the_solver_alone_gets_drawn_sums() -> None:
    asks, _, outcomes = play_out(ArithmeticDuel(problems="chance"), lambda ask, k: "0")
    assert [ask.role for ask in asks] == ["solver"]
    assert len(outcomes[0]) == 2


@pytest.mark.parametrize("problems", ["challenger", "chance"])
def test_an_exam_asks_a_drawn_sum_that_does_not_depend_on_who_writes_the_others(problems: str) -> None:
    environment = build_environment({"name": "arithmetic_duel", "problems": problems})

    def answer(ask: Ask, k: int) -> str:
        if ask.role == "challenger":
            return "2 + 2"
        right = read_sum(ask.messages[-1]["content"])
        return str(right.result) if right and k == 0 else "many"

    asks, _, outcomes = play_out(environment, answer, examines=True)
    assert read_sum(asks[1].messages[-1]["content"]) == Sum(15, "-", 11)
    assert outcomes[1] == [Outcome(1.0, DRAWN), Outcome(0.0, DRAWN)]
    lines = [(ask.role, "", one.reward, one.kind) for ask, row in zip(asks, outcomes, strict=True) for one in row]
    assert environment.measure([lines]) == {"drawn sums solved": 0.5}
    assert environment.measure([]) == {}


def spell(ask: Ask, k: int) -> str:
    """Two questions, one known without the document; three of four responses right; verifiers two to one."""
    said = ask.messages[-1]["content"]
    if ask.role == "questioner":
        sang, known = '{"question": "Who sang?", "answer": "Ada Lee"}', '{"question": "What is 1 + 1?", "answer": "2"}'
        return [sang, known, "?", "{}"][k]
    if ask.role == "verifier":
        right = "yes" if "Answer: It was Ada Lee." in said or "Answer: 2" in said else "no"
        return [right, right, {"yes": "No.", "no": "Yes."}[right], "Hm"][k]
    if "1 + 1" in said:
        return "2"
    return ["It was Ada Lee.", "Nobody", "ada lee", "It was Ada Leeward"][k] if said.startswith("The") else "Who?"


def test_the_rewards_of_spell() -> None:
    environment = DocumentQuestions(verifiers=4)
    _, _, outcomes = play_out(environment, spell, count=4, task=Task("a", "The song of Ada Lee."))
    questioner, first, second, *rest = outcomes
    unasked, verdicts = rest[:2], rest[2:]
    assert [o.reward for o in first] == [1.0, 0.0, 1.0, 0.0]
    assert [o.reward for o in second] == [1.0] * 4
    assert unasked == [[Outcome(None, "not trained on")]] * 2
    assert questioner[0].reward == 1.0  # half of the responses are right
    assert questioner[1] == (-0.5, "answered without the document")
    assert [o.kind for o in questioner[2:]] == ["unreadable"] * 2
    assert len(verdicts) == 8
    assert verdicts[0] == [Outcome(None, kind) for kind in (AGREES, AGREES, DISAGREES, "unreadable")]  # 2 of 4 agree
    _, _, outcomes = play_out(DocumentQuestions(), spell, count=4, task=Task("a", "The song of Ada Lee."))
    assert outcomes[5] == [Outcome(1.0, AGREES), Outcome(1.0, AGREES), Outcome(0.0, DISAGREES)]
    assert [o.reward for o in outcomes[7]] == [None] * 3  # they say no where the rule says yes


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [("7", "He bought 7.", True), ("7", "17", False), ("Ada Lee", "ada, Lee!", True), ("?", "?", False)],
)
def test_an_answer_is_covered_by_whole_words(answer: str, response: str, right: bool) -> None:
    assert covers(answer, response) == right
