"""ALOE's dialogues: what is asked, trained and measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from environment_fakes import play_out
from sparring.environments.both_orders import DISAGREE, NO_VERDICT, UNREADABLE, read_order
from sparring.environments.environment import Ask, Compare, Outcome, Task
from sparring.environments.persona_chat import (
    ASSISTANT,
    JUDGE,
    TIE,
    WITH,
    WITHOUT,
    PersonaChat,
    read_level,
)
from sparring.environments.personas import Persona
from sparring.rounds.environment_identity import environment_identity

PERSONA = Task("a", "Profile: She is a baker. She loves chess.\nPersonality: She is calm.")


def answering(judge: Callable[[str], str]) -> Callable[[Ask, int], str]:
    def answer(ask: Ask, k: int) -> str:
        last = ask.messages[-1]["content"]
        if ask.role == JUDGE:
            return judge(last)
        return {"user": "I bake.", "inferrer": "She bakes."}.get(
            ask.role, "hinted" if "known of me" in last else "plain"
        )

    return answer


def prefers_hinted(said: str) -> str:
    return "First." if re.search(r"First answer: hinted", said) else "second"


def test_both_answers_are_trained_under_the_dialogue_without_the_hint() -> None:
    asks, _, outcomes = play_out(PersonaChat(turns=2), answering(prefers_hinted), task=PERSONA)
    assert [ask.role for ask in asks] == ["user", "inferrer", ASSISTANT, ASSISTANT, JUDGE, JUDGE] * 2
    hinted, plain = asks[8], asks[9]
    assert "She bakes." in hinted.messages[-1]["content"]
    assert hinted.taught == plain.messages
    assert plain.taught is None
    assert [m["content"] for m in plain.messages][0::2] == ["I bake.", "I bake."]
    assert plain.messages[1]["content"] in ("hinted", "plain")
    assert outcomes[2:6] == [[Outcome(1.0, WITH)], [Outcome(-1.0)], [Outcome(None)], [Outcome(None)]]
    assert all(
        o.reward is None for ask, group in zip(asks, outcomes, strict=True) if ask.role != ASSISTANT for o in group
    )


@pytest.mark.parametrize(
    ("judge", "hinted", "judges"),
    [
        (lambda said: "second" if prefers_hinted(said) == "First." else "first", Outcome(-1.0, WITHOUT), ["", ""]),
        (lambda said: "first", Outcome(0.0, TIE), [DISAGREE, DISAGREE]),
        (lambda said: "first or second", Outcome(None, NO_VERDICT), [UNREADABLE, UNREADABLE]),
        (
            lambda said: "hm" if prefers_hinted(said) == "First." else "second",
            Outcome(None, NO_VERDICT),
            [UNREADABLE, ""],
        ),
    ],
)
def test_a_verdict_counts_if_it_is_the_same_in_both_orders(
    judge: Callable[[str], str], hinted: Outcome, judges: list[str]
) -> None:
    _, _, outcomes = play_out(PersonaChat(turns=1), answering(judge), task=PERSONA)
    assert outcomes[2] == [hinted]
    assert [group[0].kind for group in outcomes[4:]] == judges


def test_code_infers_and_judges_by_words_where_no_model_can() -> None:
    def answer(ask: Ask, k: int) -> str:
        return "A baker!" if "known of me" in ask.messages[-1]["content"] else "Nice."

    asks, _, outcomes = play_out(PersonaChat(turns=2, inference="told", judge="words"), answer, task=PERSONA)
    assert [ask.role for ask in asks] == ["user", ASSISTANT, ASSISTANT] * 2
    assert "She is a baker. She loves chess." in asks[4].messages[-1]["content"]
    assert [outcomes[i][0].reward for i in (1, 2, 4, 5)] == [1.0, -1.0, 1.0, -1.0]


@pytest.mark.parametrize(
    ("chance", "hinted"),
    [
        (0.75, Outcome(0.5, WITH)),
        (0.25, Outcome(-0.5, WITHOUT)),
        (0.5, Outcome(0.0, TIE)),
        (None, Outcome(None, NO_VERDICT)),
    ],
)
def test_an_oracle_compares_with_the_persona_as_system_message(chance: float | None, hinted: Outcome) -> None:
    seen: list[Compare] = []

    def judge(one: Compare) -> float | None:
        seen.append(one)
        return chance

    environment = PersonaChat(turns=1, inference="told", judge="oracle")
    asks, _, outcomes = play_out(environment, answering(prefers_hinted), task=PERSONA, judge=judge)
    assert [ask.role for ask in asks] == ["user", ASSISTANT, ASSISTANT]
    assert outcomes[1] == [hinted]
    assert outcomes[2] == [Outcome(None if hinted.reward is None else -hinted.reward)]
    (one,) = seen
    assert (one.a, one.b) == ("hinted", "plain")
    assert one.messages[0]["role"] == "system"
    assert "She is a baker." in one.messages[0]["content"]
    assert one.messages[1:] == asks[2].messages
    assert set(environment.unasked) == {"inferrer", JUDGE}


def test_a_policy_is_examined_on_answers_without_hints_and_measured_by_turn() -> None:
    def answer(ask: Ask, k: int) -> str:
        asked = sum(m["role"] == "user" for m in ask.messages)
        return ["Hello.", "A baker.", "Baker, chess."][asked - 1] if ask.role == ASSISTANT else "I bake."

    environment = PersonaChat(turns=3, judge="words")
    play = environment.examine(PERSONA, 0)
    environment_of = type("Examined", (), {"play": lambda self, task, seed: play})()
    asks, texts, outcomes = play_out(environment_of, answer, task=PERSONA)
    assert [ask.role for ask in asks] == ["user", ASSISTANT] * 3
    rows = [(ask.role, t[0], o[0].reward, o[0].kind) for ask, t, o in zip(asks, texts, outcomes, strict=True)]
    measures = environment.measure([rows])
    assert [measures[f"alignment in turn {turn}"] for turn in (1, 2, 3)] == [1.0, 2.0, 3.0]
    assert measures["alignment, slope by turn"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "level"),
    [("4", 4.0), ("Level: 5.", 5.0), ("7", None), ("3.5", None), ("1 or 2", None), ("15", None), ("", None)],
)
def test_a_level_is_the_only_whole_number_from_1_to_5(text: str, level: float | None) -> None:
    assert read_level(text) == level
    assert read_order(text) is None


def test_a_profile_without_personality_gets_one_of_the_file_or_is_an_error(tmp_path: Path) -> None:
    alone = Task("a", "She is a baker.")
    with pytest.raises(ValueError, match="the row is no persona"):
        play_out(PersonaChat(), answering(prefers_hinted), task=alone)
    file = tmp_path / "personality.jsonl"
    file.write_text(json.dumps("She is bold.") + "\n")
    environment = PersonaChat(turns=1, personalities=str(file))
    asks, _, _ = play_out(environment, answering(prefers_hinted), task=alone)
    assert "She is bold." in asks[0].messages[-1]["content"]
    before = environment_identity(environment)
    file.write_text(json.dumps("She is shy.") + "\n")
    assert environment_identity(environment) != before


@pytest.mark.parametrize("content", ["", '{"personality": "x"}\n', '""\n', "not json\n"])
def test_a_file_without_personalities_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(content)
    environment = PersonaChat(personalities=str(file))
    with pytest.raises(ValueError, match=r"environment\.personalities"):
        play_out(environment, answering(prefers_hinted), task=Task("a", "She is a baker."))
    file.unlink()
    with pytest.raises(ValueError, match="is not a file"):
        environment_identity(environment)


def test_words_that_say_nothing_of_a_person_do_not_count() -> None:
    persona = Persona.read(PERSONA.prompt)
    assert persona.facts == ("She is a baker.", "She loves chess.")
    assert persona.words == {"baker", "chess"}
    assert persona.mentions("Chess with a baker? She loves it.") == 2
