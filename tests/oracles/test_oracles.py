"""The guard, and the oracles that need a model, on tiny ones."""

from __future__ import annotations

import importlib
import json
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from conftest import byte_tokenizer, other_template
from oracle_fakes import Scripted
from sparring.models.messages import PromptText
from sparring.models.weights import load_model
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.mutual_information import MutualInformation
from sparring.oracles.oracle import Comparison
from sparring.oracles.reward_model import RewardModel
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.errors import OracleError, Terminated
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress
from sparring.training.packing import Rollout
from sparring.training.scorer import PolicyScorer

CASES = [
    Comparison("Say ant", "ant", "a bee"),
    Comparison("Say bee", "bee bee", "x"),
    Comparison("Say ant", "x", "ant"),
]
BACK = [Comparison(c.prompt, c.b, c.a) for c in CASES]


def test_a_failure_is_asked_again_alone():
    guard = Guard(Scripted([math.nan, 0.7, 0.2]))
    assert guard.judge(CASES[:2]).tolist() == [0.2, 0.7]
    assert guard.failed == 0


def test_what_keeps_failing_is_counted_and_left_out():
    guard = Guard(Scripted([math.nan, 0.7, math.nan, RuntimeError("down")]))
    answers = guard.judge(CASES[:2])
    assert math.isnan(answers[0])
    assert answers[1] == 0.7
    assert (guard.asked, guard.failed) == (2, 1)


@pytest.mark.parametrize("place", range(4))
def test_one_first_question_without_an_answer_stops_the_work(place):
    answers: list[complex | BaseException] = [0.5] * 4
    answers[place] = math.nan
    with pytest.raises(OracleError, match="no preference came of 1 of the first 4 questions"):
        Guard(Scripted(answers)).probe()


def test_verdicts_are_cached_by_identity_and_text(tmp_path):
    cache = tmp_path / "verdicts.jsonl"
    assert Guard(Scripted([0.7]), cache).judge(CASES[:1]).tolist() == [0.7]
    assert Guard(Scripted([]), cache).judge(CASES[:1]).tolist() == [0.7]
    other = Scripted([0.1])
    other.identity = "another"
    assert Guard(other, cache).judge(CASES[:1]).tolist() == [0.1]


def test_one_order_answers_the_other(tmp_path):
    """A judge that is paid by the question is asked once, in one call or two, before and after a restart."""
    cache = tmp_path / "verdicts.jsonl"
    first, second = CASES[:2]
    guard = Guard(Scripted([0.7, 1e-20]), cache)
    assert guard.judge([first, BACK[0], second, first]).tolist() == [0.7, 1 - 0.7, 1e-20, 0.7]
    assert guard.asked == 2
    assert Guard(Scripted([]), cache).judge([BACK[0], first, BACK[1], second]).tolist() == [1 - 0.7, 0.7, 1.0, 1e-20]


def test_an_oracle_that_ends_the_program_has_failed():
    """SystemExit(0) ended the command with code 0 and no result."""
    guard = Guard(Scripted([SystemExit(0), 0.5, 0.7, SystemExit(0), SystemExit(0)]))
    assert guard.judge(CASES[:2]) == pytest.approx([0.7, math.nan], nan_ok=True)
    assert "SystemExit(0)" in guard.last_error
    with pytest.raises(OracleError, match=r"failed on a first question: .*SystemExit\(0\)"):
        Guard(Scripted([SystemExit(0)] * 4)).probe()


JUDGES = """
def brief(prompt, a, b):
    return 0.5 if len(a) == len(b) else float(len(a) < len(b))

def boom(prompt, a, b):
    return {}["boom"]

def forgot(prompt, a, b):
    brief(prompt, a, b)

def words(prompt, a, b):
    return "the first"

def leaves(prompt, a, b):
    raise SystemExit(3)

class Silent:
    identity = "silent"

    def judge(self, comparisons):
        pass

class Broken:
    def __init__(self):
        {}["no"]
"""


@pytest.fixture
def judges(tmp_path, monkeypatch):
    (tmp_path / "newcomers_judges.py").write_text(JUDGES)
    (tmp_path / "newcomers_fault.py").write_text("import math\nmath.pie\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield "newcomers_judges"
    sys.modules.pop("newcomers_judges", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("boom", r"first question: newcomers_judges\.py:6: KeyError\('boom'\)\.$"),
        ("forgot", r"newcomers_judges:forgot returned None, which is no number\. Is a `return` missing\?"),
        (
            "words",
            r"newcomers_judges:words returned 'the first', which is no number\. Give P\(a beats b\) in \[0, 1\]\.",
        ),
        ("leaves", r"newcomers_judges\.py:15: RuntimeError\('it raised SystemExit\(3\)'\)"),
        ("Silent", r"oracle silent: `judge` returned None\. Is a `return` missing\?"),
    ],
)
def test_an_error_in_ones_own_oracle_says_where(judges, name, message):
    """`KeyError('boom')` alone stood there."""
    guard = Guard(build_oracle({"name": f"{judges}:{name}"}, None))
    with pytest.raises(OracleError, match=message):
        guard.probe()
    with pytest.raises(OracleError, match=message.removeprefix("first question: ").removesuffix(r"\.$")):
        guard.judge([Comparison(str(i), "a", "bb") for i in range(20)])


def test_an_oracle_that_cannot_be_made_says_where(judges):
    with pytest.raises(ValueError, match=r"'newcomers_judges:Broken' cannot be made: newcomers_judges\.py:25: Key"):
        build_oracle({"name": f"{judges}:Broken"}, None)
    message = r"cannot import 'newcomers_fault:f': newcomers_fault\.py:2: module 'math' has no attribute 'pie'"
    with pytest.raises(ValueError, match=message):
        build_oracle({"name": "newcomers_fault:f"}, None)


def test_a_function_s_name_is_an_oracle(judges):
    """It was read as a class with the fields prompt, a and b."""
    oracle = build_oracle({"name": f"{judges}:brief"}, None)
    assert oracle.identity == build_oracle({"name": "function", "path": f"{judges}:brief"}, None).identity
    assert oracle.title == "function (newcomers_judges:brief)"
    Guard(oracle).probe()
    both = build_oracle({"name": "both_orders", "oracle": {"name": f"{judges}:brief", "both_orders": True}}, None)
    assert "both_orders=True" in both.identity
    with pytest.raises(ValueError, match=r"oracle\.both_order: unknown key .*Did you mean 'both_orders'"):
        build_oracle({"name": f"{judges}:brief", "both_order": True}, None)


def test_sigterm_while_an_oracle_answers_ends_the_command() -> None:
    """It was taken for a failed verdict, asked again, and the run went on."""
    with pytest.raises(Terminated):
        Guard(Scripted([Terminated(143)])).judge(CASES[:1])


def test_complex_numbers_are_no_preferences():
    with pytest.raises(OracleError, match="complex numbers"):
        Guard(Scripted([0.5 + 0j])).judge(CASES[:1])


def test_a_failure_has_no_other_order():
    guard = Guard(Scripted([math.nan] * 3))
    assert np.isnan(guard.judge([CASES[0], BACK[0]])).all()
    assert (guard.asked, guard.failed) == (1, 1)


class Illegible:
    """Gives no verdict on three in a hundred, always the same ones."""

    identity = "illegible"

    def judge(self, comparisons):
        return np.array([math.nan if int(c.prompt) % 100 in (40, 60, 80) else 0.7 for c in comparisons])


def test_a_resumed_guard_counts_failures_like_one_that_never_stopped(tmp_path):
    """The 5 % were of this process's questions: after a restart only failures were asked, and 2 of 2 failed."""
    many = [Comparison(str(i), "x", "y") for i in range(1000)]
    waves = [many[begin : begin + 32] for begin in range(0, len(many), 32)]
    before = Guard(Illegible(), tmp_path / "verdicts.jsonl")
    for wave in waves[:28]:
        before.judge(wave)
    after = Guard(Illegible(), tmp_path / "verdicts.jsonl")
    answers = np.concatenate([after.judge(wave) for wave in waves])
    assert (int(np.isnan(answers).sum()), after.failed) == (30, 30)


def test_a_comparison_that_fails_twice_is_one_failure():
    guard = Guard(Illegible())
    cases = [Comparison(str(i), "x", "y") for i in range(40, 60)]
    for _ in range(3):
        guard.judge(cases)
        guard.judge([Comparison(c.prompt, c.b, c.a) for c in cases])
    assert guard.failed == 1


def test_too_many_failures_stop_also_when_resumed(tmp_path):
    cases = [Comparison(str(i), "x", "y") for i in (*range(80), 140, 160, 180)]
    for _ in range(2):
        with pytest.raises(OracleError, match="5 of 83 comparisons failed"):
            Guard(Illegible(), tmp_path / "verdicts.jsonl").judge(cases)


def test_equal_texts_tie_unasked():
    guard = Guard(Scripted([]))
    assert guard.judge([Comparison("p", "same", "same")]).tolist() == [0.5]
    assert guard.asked == 0


def test_outside_the_unit_interval_stops():
    with pytest.raises(OracleError, match=r"outside \[0, 1\]"):
        Guard(Scripted([1.2])).judge(CASES[:1])


@pytest.mark.parametrize("per_token", [False, True])
def test_mutual_information_is_the_log_probability_ratio(tiny_model, per_token):
    oracle = MutualInformation(str(tiny_model), per_token=per_token, scale=1.0)
    forward, backward = oracle.judge(CASES), oracle.judge(BACK)
    assert np.allclose(forward + backward, 1.0)
    scorer = PolicyScorer(load_model(tiny_model, torch.bfloat16))
    chat, score = oracle.chat, {}
    for text in ("ant", "a bee"):
        ids = chat.response_ids(text)[:-1]
        with torch.no_grad():
            values = [
                float(scorer(scorer.pack([Rollout(chat.prompt_ids([{"role": "user", "content": p}]), [ids])]))[0])
                for p in ("Say ant", " ")
            ]
        score[text] = (values[0] - values[1]) / (len(ids) if per_token else 1)
    expected = 1 / (1 + math.exp(score["a bee"] - score["ant"]))
    assert forward[0] == pytest.approx(expected, abs=2e-2)  # bfloat16


def test_an_empty_answer_loses_against_every_other_and_ties_with_another(tiny_model):
    """Its sum over no tokens is 0, and answers off the subject score below 0."""
    oracle = MutualInformation(str(tiny_model))
    texts = ["ant", "a bee", "off the subject", "?"]
    lead = oracle.judge([Comparison("Say ant", text, "") for text in texts])
    assert lead.tolist() == [1.0] * 4
    assert oracle.judge([Comparison("Say ant", " ", text) for text in texts]).tolist() == [0.0] * 4
    assert oracle.judge([Comparison("p", "", " ")]).tolist() == [0.5]


@pytest.fixture
def reward_folder(tmp_path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=256,
    )
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "reward")
    byte_tokenizer().save_pretrained(tmp_path / "reward")
    return tmp_path / "reward"


def test_reward_model_is_bradley_terry(reward_folder):
    oracle = build_oracle({"name": "reward_model", "model": str(reward_folder), "temperature": 2.0}, "")
    assert isinstance(oracle, RewardModel)
    rewards = oracle.rewards([("Say ant", "ant"), ("Say ant", "a bee")])
    forward, backward = oracle.judge(CASES), oracle.judge(BACK)
    assert forward[0] == pytest.approx(1 / (1 + math.exp((rewards[1] - rewards[0]) / 2)))
    assert np.allclose(forward + backward, 1.0)


def test_rewards_do_not_depend_on_the_batch(reward_folder):
    pairs = [("Say ant", "ant"), ("Say ant", "a much longer answer than the other one"), ("p", "x")]
    together = RewardModel(str(reward_folder)).rewards(pairs)
    alone = [RewardModel(str(reward_folder)).rewards([pair])[0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_reward_model_without_a_pad_token_reads_the_last_token(reward_folder):
    """With the end token as padding, every text that ends with it was read one token too early."""
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(reward_folder)
    config = LlamaConfig.from_pretrained(reward_folder)
    config.pad_token_id = None
    config.save_pretrained(reward_folder)
    oracle = RewardModel(str(reward_folder))
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}], return_dict=False
    )
    with torch.no_grad():
        states = oracle.model.model(torch.tensor([ids])).last_hidden_state
        expected = float(oracle.model.score(states)[0, -1, 0])
    assert oracle.rewards([("p", "x"), ("p", "another one")])[0] == pytest.approx(expected, abs=1e-6)


def test_a_reward_model_gets_a_prompt_s_turns_as_turns(reward_folder):
    oracle = RewardModel(str(reward_folder))
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    answer = {"role": "assistant", "content": "Ho"}
    whole = str(oracle.tokenizer.apply_chat_template([*talk, answer], tokenize=False))
    prompt = pickle.loads(pickle.dumps(PromptText(talk)))
    ids = oracle.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert oracle.rewards([(prompt, "Ho")]) == oracle._forward([ids])
    assert oracle.rewards([(prompt, "Ho")]) != oracle.rewards([(str(prompt), "Ho")])


def test_a_reward_model_with_another_template_is_another_judge(reward_folder):
    before = RewardModel(str(reward_folder)).identity
    assert RewardModel(str(reward_folder)).identity == before
    other_template(reward_folder)
    assert RewardModel(str(reward_folder)).identity != before


def test_answers_that_a_reward_model_cuts_are_counted_and_shown(reward_folder, tiny_recipe, tmp_path):
    assert RewardModel(str(reward_folder), max_tokens=12).cut([("p", "short"), ("p", "much longer than that")]) == 1
    section = {"name": "reward_model", "model": str(reward_folder), "max_tokens": 12}
    out = tmp_path / "run"
    summary = run(parse_recipe({**tiny_recipe, "oracle": section, "rounds": 1}), out, Progress(quiet=True))
    samples = {(row["example"], row["text"]) for row in read_table(out / "rounds/000/samples.parquet")}
    facts = json.loads((out / "manifest.json").read_text())["rounds/000/judge"]["facts"]
    assert 0 < facts["answers_cut"] <= len(samples)
    assert summary["judgments"][0]["answers_cut"] > 0
    assert "only in part" in summary["warnings"][-1]


def test_a_reward_model_without_its_head_is_refused(reward_folder):
    """A plain language model would be loaded with a random head, and judge by it."""
    config = LlamaConfig.from_pretrained(reward_folder)
    LlamaForCausalLM(config).save_pretrained(reward_folder)
    with pytest.raises(ValueError, match=r"oracle\.model: .* has no weights for score\.weight; they would be random"):
        RewardModel(str(reward_folder))


def test_a_classifier_with_two_outputs_is_refused(reward_folder):
    config = LlamaConfig.from_pretrained(reward_folder)
    config.num_labels = 2
    LlamaForSequenceClassification(config).save_pretrained(reward_folder)
    with pytest.raises(ValueError, match="2 outputs"):
        RewardModel(str(reward_folder))


def test_a_function_whose_helper_changed_is_another_judge(tmp_path, monkeypatch):
    """Verdicts kept under the function's own source stayed valid for ever."""
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for body in ("0.5", "0.5", "0.75"):
        source = f"def helper():\n    return {body}\n\n\ndef judge(p, a, b):\n    return helper()\n"
        (tmp_path / "judges_here.py").write_text(source)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "judges_here", raising=False)
        found.append(build_oracle({"name": "function", "path": "judges_here:judge"}, "").identity)
    assert found[0] == found[1] != found[2]
