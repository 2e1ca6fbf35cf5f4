"""Runs side by side: shared judges only, one start, paired differences, and a page that escapes what it shows."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import asdict
from typing import Any

import pytest

from command import sparring
from sparring.cli.compare import labels
from sparring.evaluation.intervals import Interval
from sparring.report.compare import gather, write_comparison

RATE = Interval(0.6, 0.55, 0.65)


def judgment(identity, rate=RATE, seen=True):
    return {"name": identity.split("(")[0], "identity": identity, "seen_in_training": seen, "win_rate": rate}


def summary(preferences: Any = (0.6, 0.7, 0.5), judgments: Any = ("panel(v1)", "length(v1)")) -> Any:
    stages = {
        "sample": {"seconds": 10.0, "facts": {"tokens": 100}},
        "half/sample": {"seconds": 5.0, "facts": {"tokens": 50}},
        "judge": {"seconds": 1.0, "facts": {"comparisons": 8}},
        "fit": {"seconds": 20.0, "facts": {"tokens": 70}},
    }
    policy = {"tokens_mean": 40.0, "finished_share": 0.9, "kl_to_start": 2.0, "kl_standard_error": 0.1}
    return {
        "algorithm": {"title": "INPO"},
        "recipe": {"seed": 0, "evaluation": {"samples": 4}},
        "lock": {"weights": {"0/play": "s"}, "hardware": {"accelerator": None, "cores": 2}},
        "headline": {"oracle": "panel"} if judgments else None,
        "judgments": [judgment(identity) for identity in judgments],
        "checks": None,
        "pool": {"gaps": {"1": Interval(0.1, 0.05, 0.2)}},
        "policies": [{"round": 0, **policy}, {"round": 1, **policy}],
        "rounds": [{"round": 0, "stages": stages}],
        "warnings": [],
        "samples": [{"prompt": f"p{i}", "preference": p} for i, p in enumerate(preferences)],
    }


def test_costs_and_differences():
    found = gather({"a": summary(), "b": summary((0.8, 0.9, None))})
    run = found["runs"][0]
    assert (run["seconds"], run["tokens_sampled"], run["tokens_trained"], run["comparisons"]) == (36.0, 150, 70, 8)
    assert run["gap"].value == 0.1
    (under,) = found["differences"]
    assert (under["judge"], under["runs"][0]["prompts"]) == ("panel", 2)
    assert under["runs"][0]["difference"].value == pytest.approx(0.2)
    assert found["left_out"] == [
        "paired difference under length: a, b, of an older version, stored it for the training oracle alone"
    ]


def test_every_shared_judge_has_its_own_difference_unseen_first():
    runs = {"a": summary(), "b": summary(), "c": summary()}
    for name, gain in (("a", 0.0), ("b", 0.3), ("c", -0.3)):
        runs[name]["samples"] = [{"prompt": f"p{i}", "preference": None} for i in range(30)]
        panel, length = runs[name]["judgments"]
        panel["by_prompt"] = [0.5 - gain] * 30
        length |= {"by_prompt": [0.6 + gain + i % 2 / 50 * (name != "a") for i in range(30)], "seen_in_training": False}
    runs["b"]["judgments"].reverse()
    found = gather(runs)
    assert [one["judge"] for one in found["differences"]] == ["length", "panel"]
    assert [one["name"] for one in found["judgments"]] == ["length", "panel"]
    assert [d["difference"].value for d in found["differences"][1]["runs"]] == pytest.approx([-0.3, 0.3])
    assert found["answer"].startswith("Which run gained more over the common start? Under length, unseen in training: ")
    assert "b gained more than a (+31.0 points" in found["answer"]
    assert "c gained less than a (-29.0 points" in found["answer"]
    runs["a"]["judgments"][1]["seen_in_training"] = True
    assert "Under panel, which a run was trained on" in gather(runs)["answer"]


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (0.42, r"none of them is shown to gain \(a wins 42.*; b wins 29.*Between them: b did worse than a"),
        (0.62, r"b gained less than a .*\. Not shown to gain at all: b wins 29"),
    ],
)
def test_who_lost_less_did_not_gain(first, says):
    runs = {"a": summary(judgments=["panel(v1)"]), "b": summary(judgments=["panel(v1)"])}
    for name, value in (("a", first), ("b", 0.29)):
        runs[name]["samples"] = [{"prompt": f"p{i}", "preference": None} for i in range(30)]
        rate = Interval(value, value - 0.06, value + 0.06)
        runs[name]["judgments"][0] |= {
            "win_rate": rate,
            "by_prompt": [value + (name == "a") * i / 1000 for i in range(30)],
        }
    assert re.search(says, gather(runs)["answer"])


def test_few_prompts_answer_nothing():
    found = gather({"a": summary(), "b": summary((0.8, 0.9, 0.9))})
    assert "too few prompts to tell b from a (3, at least 20 are needed)" in found["answer"]


def test_only_shared_judges_are_compared():
    found = gather({"a": summary(), "b": summary(judgments=("panel(v1)", "length(v2)"))})
    assert [one["identity"] for one in found["judgments"]] == ["panel(v1)"]
    assert len(found["left_out"]) == 2


def test_differences_of_older_runs_need_the_same_first_judge():
    found = gather({"a": summary(), "b": summary(judgments=("length(v1)", "panel(v1)"))})
    assert found["differences"] == []
    assert "not answered here" in found["answer"]


def test_runs_without_judges_compare_by_what_they_have():
    found = gather({"a": summary(judgments=()), "b": summary(judgments=())})
    assert (found["judgments"], found["differences"]) == ([], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["judgments"].__setitem__(slice(None), [judgment("panel(v2)")]), "share no judge"),
        (lambda s: s["lock"]["weights"].update({"0/play": "t"}), "a and b start from other weights"),
        (lambda s: s["samples"].pop(), "other held-out prompts"),
        (lambda s: s["recipe"]["evaluation"].update(samples=8), r"answers per prompt \(evaluation.samples\)"),
    ],
)
def test_refuses_what_does_not_compare(change, message):
    other = copy.deepcopy(summary())
    change(other)
    with pytest.raises(ValueError, match=message):
        gather({"a": summary(), "b": other})


def test_one_run_is_no_comparison():
    with pytest.raises(ValueError, match="at least two"):
        gather({"a": summary()})


def test_kl_on_other_samples_than_the_policys_says_so(tmp_path):
    own, sharp, both = summary(), summary(), summary()
    sharp["recipe"]["sampling"] = {"temperature": 0.7, "top_p": 1.0}
    both["recipe"]["sampling"] = {"temperature": 0.7, "top_p": 0.9}
    assert [run["kl_title"] for run in gather({"a": own, "b": sharp, "c": both})["runs"]] == [
        "KL",
        "KL on the samples (T = 0.7)",
        "KL on the samples (T = 0.7, top_p = 0.9)",
    ]
    write_comparison(gather({"a": sharp, "b": sharp}), tmp_path / "page.html")
    assert ">KL on the samples (T = 0.7) to start, nats<" in (tmp_path / "page.html").read_text()
    write_comparison(gather({"a": own, "b": own}), tmp_path / "page.html")
    assert ">KL to start, nats<" in (tmp_path / "page.html").read_text()


def test_the_page_escapes_names(tmp_path):
    write_comparison(gather({"<b>x": summary(), "y": summary()}), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;x" in text
    assert "<b>x" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_every_cell_names_its_column_where_a_narrow_page_has_no_header(tmp_path):
    name = "a-run-with-a-name-that-is-longer-than-any-column"
    write_comparison(gather({name: summary(), "y": summary()}), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert re.findall(r"<td(?![^>]* data-label=)[^>]*>", text) == []
    assert "overflow-x" not in text.split("</style>")[1]
    assert "script-src" not in text


def test_judges_of_one_name_are_told_apart():
    judges = ("function(mine:one;source=1)", "function(mine:two;source=2)", "panel(v1)")
    runs = {name: summary(judgments=judges) for name in "ab"}
    assert [one["name"] for one in gather(runs)["judgments"]] == ["function (mine:one)", "function (mine:two)", "panel"]


def test_the_command(tmp_path):
    runs = []
    for name, one in (("a", summary()), ("b", summary((0.8, 0.9, 0.7)))):
        runs.append(tmp_path / name)
        (runs[-1] / "evaluation").mkdir(parents=True)
        (runs[-1] / "evaluation" / "summary.json").write_text(json.dumps(one, default=asdict))
    shown = sparring("compare", *runs, "--out", tmp_path / "page.html")
    assert shown.code == 0, shown.err
    assert "minus that of a, by prompt" in shown.out
    assert re.search(r"\npanel +yes +b +\+20\.0 ", shown.out)
    assert (tmp_path / "page.html").exists()
    plain = sparring("compare", *runs, "--out", tmp_path / "page.html", "--json")
    assert [run["name"] for run in json.loads(plain.out)["runs"]] == ["a", "b"]
    twice = sparring("compare", runs[0], runs[0], "--out", tmp_path / "page.html")
    assert (twice.code, "given twice" in twice.err) == (2, True)
    for path, why in ((tmp_path, "is a folder"), (runs[0] / "evaluation/summary.json/c.html", "cannot be made")):
        refused = sparring("compare", *runs, "--out", path)
        assert (refused.code, why in refused.err, "Give another --out" in refused.err) == (2, True, True)
    (runs[1] / "evaluation" / "summary.json").unlink()
    assert "no summary.json yet" in sparring("compare", *runs, "--out", tmp_path / "page.html").err


def test_equal_folder_names_are_told_apart(tmp_path):
    assert labels([tmp_path / "x" / "run", tmp_path / "y" / "run"]) == [str(tmp_path / p / "run") for p in "xy"]


def test_runs_that_sampled_otherwise_are_compared_with_a_caution():
    a, b = summary(), summary((0.8, 0.9, 0.5))
    assert "Caution" not in gather({"a": a, "b": b})["answer"]
    a["recipe"]["sampling"] = {"max_new_tokens": 16, "temperature": 1.0, "batch_size": 8}
    b["recipe"]["sampling"] = {"max_new_tokens": 12, "temperature": 1.0, "batch_size": 64}
    said = "Caution: a, b were sampled with other settings (max_new_tokens 16, 12), their starts too"
    assert said in gather({"a": a, "b": b})["answer"]
