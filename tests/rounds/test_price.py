"""What a paid judge may cost, said before the run: never below what is then asked."""

from __future__ import annotations

import io
from itertools import count

import pytest
import yaml
from rich.console import Console

pytest.importorskip("openai")

from command import sparring
from conftest import write_jsonl
from faulty_server import completion, serving
from sparring.recipe.reading import parse_recipe
from sparring.rounds.price import evaluation_comparisons, training_comparisons
from sparring.rounds.run import run
from sparring.runtime.progress import Progress


def test_counts_follow_the_recipe(tiny_recipe):
    recipe = parse_recipe(tiny_recipe)
    assert training_comparisons(recipe, 6) == 6 * 6 * 2  # best of 4 asks 6; 6 prompts, 2 rounds
    assert evaluation_comparisons(recipe, 3, trains=True) == 3 * 15  # 2 samples of 3 policies
    assert evaluation_comparisons(recipe, 3, trains=False) == 3 * 4
    opponent = {"name": "peer", "model": "m", "base_url": "http://127.0.0.1:1/v1", "key_env": None}
    tiny_recipe["evaluation"]["opponents"] = [opponent]
    assert evaluation_comparisons(parse_recipe(tiny_recipe), 3, trains=True) == 3 * (15 + 4 + 4)  # start and final
    tiny_recipe["evaluation"]["every"] = 1
    assert evaluation_comparisons(parse_recipe(tiny_recipe), 3, trains=False) == 3 * (2 * 4 + 3 * 4)  # two rounds


def paid_judge(url):
    """A recipe's section."""
    return {"name": "llm_judge", "model": "m", "base_url": url, "key_env": None, "price_in": 1, "price_out": 1}


def longer(request):
    """The judge's reply: the longer answer wins."""
    user = request["messages"][-1]["content"]
    first, second = (user.split(f"assistant {x}'s answer]\n")[1].split("\n[The end")[0] for x in "AB")
    return completion("A" if (len(first), first) > (len(second), second) else "B")


@pytest.mark.parametrize("labels", [0, 20])
def test_a_run_under_a_paid_judge_says_its_price_first(tiny_recipe, tmp_path, labels):
    places = count()

    def answer(request):
        next(places)
        return longer(request)

    with serving() as server:
        server.answer = answer
        judge = paid_judge(server.url)
        tiny_recipe["algorithm"]["samples"] = 2
        tiny_recipe["evaluation"]["samples"] = 1
        oracle = {**judge, "replies": str(tmp_path / "replies.jsonl")}
        if labels:
            rows = [{"prompt": f"p{i}", "chosen": "longer", "rejected": "long"} for i in range(labels)]
            file = write_jsonl(tmp_path / "labels.jsonl", rows)
            oracle = {"name": "calibrated", "labels": str(file), "oracle": oracle}
        recipe = parse_recipe({**tiny_recipe, "rounds": 1, "oracle": oracle})
        console = Console(file=(said := io.StringIO()), width=300)
        run(recipe, tmp_path / "run", Progress(console))
    first = ", and the labels first" if labels else ""
    assert f"at most 6 comparisons in training and 3 in the evaluation{first}: {18 + 2 * labels} req" in said.getvalue()
    assert ("judge  m: 20 labelled pairs first: 40 requests" in said.getvalue()) == bool(labels)
    assert said.getvalue().index("judge  m:") < said.getvalue().index("sample")
    asked = next(places)
    assert 2 * labels < asked <= 18 + 2 * labels + 4  # two first questions
    assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == asked


def test_a_collection_under_a_paid_judge_has_no_held_out_prompts_to_price(tiny_recipe, tmp_path):
    with serving() as server:
        server.answer = longer
        judge = paid_judge(server.url)
        plain = {**tiny_recipe, "oracle": judge}
        plain["data"] = {"train": plain["data"]["train"], "collect": {"samples": 2}}
        del plain["algorithm"]
        file = tmp_path / "collect.yaml"
        file.write_text(yaml.safe_dump(plain))
        outcome = sparring("collect", file, "--keep-cut-off", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "0 in the evaluation" in outcome.out + outcome.err
