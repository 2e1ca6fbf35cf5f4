"""Which replies of random episodes are trained on, in which groups, and what they are worth: against forty lines."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.environments.environment import Ask, Outcome, Task
from sparring.rounds.episode import Episode
from sparring.rounds.rewards import Rewards
from sparring.rounds.turns import tables

ROLES, BOUNDS = ("writer", "reader"), (-1.0, 1.0)
REPLIES = st.lists(st.sampled_from([None, -1.0, -0.5, 0.0, 1.0]), min_size=1, max_size=3)
QUESTIONS = st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from("xyz"), REPLIES), max_size=6)
"""role, prompt, rewards of the replies"""
Question = tuple[str, str, list[float | None]]


def episode(name: str, questions: list[Question]) -> Episode:
    """A finished one; a reply's text says where it stands."""
    one = Episode(Task(name, ""), None)  # type: ignore[arg-type]  # nobody plays on
    for place, (role, prompt, rewards) in enumerate(questions):
        one.asks.append(Ask(role, [{"role": "user", "content": prompt}], len(rewards)))
        one.taught.append([ord(prompt)])
        texts = [f"{name} {place} {k}" for k in range(len(rewards))]
        one.rows.append([{"index": k, "text": text, "policy": "0/play"} for k, text in enumerate(texts)])  # type: ignore[misc]
    one.outcomes = [[Outcome(reward) for reward in rewards] for *_, rewards in questions]
    return one


def expected(episodes: list[list[Question]], trained: tuple[str, ...], size: int) -> tuple[list[Any], list[Any]]:
    """The groups of siblings, and of every trained reply its reward and its role's running mean before its episode."""
    siblings: dict[Any, list[str]] = {}
    worth: list[Any] = []
    means = dict.fromkeys(ROLES, 0.0)
    for number, questions in enumerate(episodes):
        got: dict[str, list[float]] = {}
        for place, (role, prompt, rewards) in enumerate(questions):
            for k, reward in enumerate(rewards):
                if reward is None:
                    continue
                got.setdefault(role, []).append(reward)
                if role in trained:
                    siblings.setdefault((role, prompt), []).append(f"{number} {place} {k}")
                    worth.append((f"{number} {place} {k}", reward, means[role]))
        for role, values in got.items():
            means[role] = 0.9 * means[role] + 0.1 * sum(values) / len(values)
    groups = [(role, texts[i : i + size]) for (role, _), texts in siblings.items() for i in range(0, len(texts), size)]
    return sorted(groups), worth


@given(st.lists(QUESTIONS, max_size=5), st.sampled_from([ROLES, ROLES[:1]]), st.integers(1, 4))
def test_replies_of_random_episodes_are_trained_as_the_reference_says(
    questions: list[list[Question]], trained: tuple[str, ...], size: int
) -> None:
    played = [episode(str(number), one) for number, one in enumerate(questions)]
    examples, samples, turns = tables(SimpleNamespace(siblings=size, count=size), played, trained)  # type: ignore[arg-type]
    groups, worth = expected(questions, trained, size)
    by_example = itertools.groupby(sorted(samples, key=lambda s: (s["example"], s["index"])), lambda s: s["example"])
    texts = {name: [sample["text"] for sample in rows] for name, rows in by_example}
    assert sorted((one["group"], texts[one["example"]]) for one in examples) == groups
    rewards = Rewards.of(turns, BOUNDS, {}, 0.9)
    assert [turn["text"] for turn in turns if turn["example"]] == [text for text, *_ in worth]
    for turn, (_, reward, mean) in zip([turn for turn in turns if turn["example"]], worth, strict=True):
        name, index = turn["example"], turn["index"]
        assert name is not None
        assert index is not None
        assert rewards.judge(name, [(index, -1)]) == pytest.approx([0.5 + (reward - mean) / 4])
        others = [k for k in range(len(texts[name])) if k != index]
        paid = {text: other for text, other, _ in worth}
        found = rewards.judge(name, [(index, k) for k in others])
        assert found == pytest.approx([0.5 + (reward - paid[texts[name][k]]) / 4 for k in others])
