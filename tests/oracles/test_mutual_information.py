"""Mutual information under the tiny model: its defaults, its template, and who wins."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from conftest import byte_tokenizer, other_template
from sparring.oracles import mutual_information
from sparring.oracles.build import build_oracle
from sparring.oracles.mutual_information import MutualInformation
from sparring.oracles.oracle import Comparison
from sparring.training.scorer import PolicyScorer


def test_the_default_model_is_the_run_s_start(tiny_model):
    oracle = build_oracle({"name": "mutual_information"}, str(tiny_model))
    there = oracle.judge([Comparison("Say ant", "ant", "a bee"), Comparison("Say ant", "ant", "ant")])
    back = oracle.judge([Comparison("Say ant", "a bee", "ant"), Comparison("Say ant", "", "")])
    assert there[0] + back[0] == pytest.approx(1.0)
    assert (there[1], back[1]) == (0.5, 0.5)
    assert np.isfinite([*there, *back]).all()


def test_a_base_model_needs_a_template(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "base")
    (model / "chat_template.jinja").unlink()
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(model)
    with pytest.raises(ValueError, match=r"oracle\.chat_template, for .*: .*no chat template"):
        build_oracle({"name": "mutual_information"}, str(model))
    plain = build_oracle({"name": "mutual_information", "chat_template": "plain"}, str(model))
    own = build_oracle({"name": "mutual_information"}, str(tiny_model))
    assert plain.identity != own.identity
    assert 0 <= plain.judge([Comparison("Say ant", "ant", "bee")])[0] <= 1


def test_a_model_with_another_template_is_another_judge(tiny_model, tmp_path):
    """Verdicts under the old template were used under the new one."""
    model = shutil.copytree(tiny_model, tmp_path / "base")
    section, case = {"name": "mutual_information"}, [Comparison("Say ant", "ant", "a bee")]
    before = build_oracle(section, str(model))
    assert before.identity == build_oracle(section, str(tiny_model)).identity
    other_template(model)
    after = build_oracle(section, str(model))
    assert before.judge(case) != after.judge(case)
    assert before.identity != after.identity


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_answers_share_the_empty_prompt_within_the_budget(tiny_model, monkeypatch, layout):
    """Sixteen long answers were one row of four times the budget."""
    pairs = [(f"Say {n % 3}", "ant " * (1 + n * n % 30)) for n in range(40)]
    alone = MutualInformation(str(tiny_model), budget=1).scores(pairs)
    fed: list[tuple[int, int]] = []
    plain = PolicyScorer.forward

    def noting(self, pack):
        prompts = len(pack.segments) if layout == "packed" else pack.num_responses
        fed.append((pack.num_responses - prompts, pack.input_ids_BT.numel()))
        return plain(self, pack)

    monkeypatch.setattr(PolicyScorer, "forward", noting)
    monkeypatch.setattr(mutual_information, "scorer_of", lambda model: PolicyScorer(model, layout).eval())
    np.testing.assert_allclose(MutualInformation(str(tiny_model), budget=400).scores(pairs), alone, atol=0.1)
    assert layout == "padded" or max(tokens for _, tokens in fed) <= 400
    assert (sum(shared for shared, _ in fed) > 20) is (layout == "packed")


def test_the_sum_and_the_mean_of_one_model_share_its_passes(tiny_model, monkeypatch):
    """A recipe asks for both, one after the other; each ran the same passes."""
    case = [Comparison("Say ant", "an ant", "a bee and more"), Comparison("Say bee", "", "bee")]
    section = {"name": "mutual_information"}
    alone = build_oracle({**section, "per_token": True}, str(tiny_model)).judge(case)
    passes: list[int] = []
    plain = mutual_information.rollout_logps
    monkeypatch.setattr(mutual_information, "rollout_logps", lambda *a, **k: passes.append(len(a[1])) or plain(*a, **k))
    summed = build_oracle(section, str(tiny_model))
    summed.judge(case)
    first = sum(passes)
    per_token = build_oracle({**section, "per_token": True}, str(tiny_model))
    assert (per_token.judge(case) == alone).all()
    assert sum(passes) == first > 0
