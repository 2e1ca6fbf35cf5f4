"""The order in which people are asked: as many prompts as possible, whenever they stop."""

from __future__ import annotations

from pathlib import Path

from sparring.votes.ballot import Ballot
from sparring.votes.database import open_database
from sparring.votes.items import make_item
from sparring.votes.order import places
from vote_fakes import voter

ITEMS = [
    make_item("Which?", [{"role": "user", "content": f"prompt {p}"}], f"first {k}", f"second {k}")[0]
    for p in range(7)
    for k in range(p % 3 + 1)
]


def test_every_prompt_comes_once_before_any_comes_twice():
    order = places({item.id: item for item in ITEMS})
    asked = sorted(ITEMS, key=lambda item: order[item.id])
    prompts = [item.messages[0]["content"] for item in asked]
    assert sorted(order.values()) == list(range(len(ITEMS)))
    assert sorted(prompts[:7]) == [f"prompt {p}" for p in range(7)]
    assert sorted(prompts[7:11]) == ["prompt 1", "prompt 2", "prompt 4", "prompt 5"]
    assert sorted(prompts[11:]) == ["prompt 2", "prompt 5"]
    assert prompts[:7] != sorted(prompts[:7])  # the file's order tells nothing


def test_the_order_is_that_of_the_set_and_not_of_its_telling():
    assert places({item.id: item for item in ITEMS}) == places({item.id: item for item in reversed(ITEMS)})


def test_voters_see_them_in_this_order_and_later_ones_after(tmp_path: Path):
    ballot = Ballot(open_database(tmp_path / "votes.sqlite"))
    ballot.ask(ITEMS[3:], wanted=1, skips=3)
    ballot.ask(ITEMS, wanted=1, skips=3)
    ada, seen = voter(ballot.database), []
    while len(seen) < len(ITEMS) and (showing := ballot.next_showing(ada)) is not None:
        assert ballot.vote(ada, showing.id, "left")
        if (shown := (showing.messages[0]["content"], {showing.left, showing.right})) not in seen:
            seen.append(shown)
    early, late = places({item.id: item for item in ITEMS[3:]}), places({item.id: item for item in ITEMS})
    expected = [
        *sorted(ITEMS[3:], key=lambda item: early[item.id]),
        *sorted(ITEMS[:3], key=lambda item: late[item.id]),
    ]
    assert seen == [(item.messages[0]["content"], set(item.answers)) for item in expected]
