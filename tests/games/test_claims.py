"""Claims: verdicts, the ones that take no fit, parts of the others, and the generated page."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sparring.algorithms.algorithm import SHIPPED
from sparring.games import claims_fit, claims_gradient, claims_offline, claims_sampled
from sparring.games.claim import Claim, Effort, agrees, tabulated
from sparring.games.claims import CLAIMS, check
from sparring.games.transformer import (
    INDEX,
    PROMPTS,
    SEQUENCES,
    TEXTS,
    MatrixOracle,
    enumerate_policy,
    preference_matrix,
)
from sparring.objectives import Batch, Loss
from sparring.oracles.oracle import Comparison

DOCS = Path(__file__).parents[2] / "docs"


def failing(claims: list[Claim]) -> list[str]:
    return [
        f"{claim.algorithm} {claim.id}: {claim.measured}, not {claim.predicted}"
        for claim in claims
        if claim.holds is False
    ]


@pytest.mark.parametrize("name", [name for name, checks in CLAIMS.items() if any(c.player == "exact" for c in checks)])
def test_exact_claims_hold(name: str):
    rows, _ = check(name, "exact")
    assert rows
    assert not failing(list(rows))
    assert all(row.algorithm == name and row.claim and row.source and row.measured for row in rows)


def test_every_algorithm_has_claims_and_pair_differences_have_f1():
    assert CLAIMS.keys() == SHIPPED.keys()
    assert all(CLAIMS.values())
    assert claims_fit.CLOSED.keys() == {"inpo", "comal", "mpo", "mnpo", "onpo", "egpo", "nash_md", "ipo", "dpo", "spin"}


@pytest.mark.parametrize("name", claims_gradient.STATIONARY)
def test_stationarity_where_there_is_no_closed_form(name: str):
    assert not failing(list(claims_gradient.stationarity(name, Effort())))


@pytest.mark.parametrize("name", SHIPPED)
def test_gradients(name: str):
    assert not failing(list(claims_gradient.gradient(name, Effort())))


def test_response_squares_miss_their_closed_form_by_the_stated_distance():
    rows = [*claims_fit.response_square(Effort()), *claims_fit.rspo_square(Effort())]
    rows += [row for name in ("spac", "dpo") for row in claims_fit.data_term(name, Effort())]
    assert not failing(rows)
    assert [row.verdict for row in rows] == ["refuted", "holds", "refuted", "holds", "holds"]


def test_pairs_of_two_policies_bias_a_step():
    rows = [row for name in ("inpo", "nash_md", "egpo") for row in claims_sampled.two_policies(name, Effort())]
    assert not failing([*rows, *claims_sampled.i1(Effort()), *claims_sampled.shrunk(Effort())])


def test_enumerated_pairs_are_those_of_the_sampled_player():
    algorithm = claims_sampled.build_for_game("inpo", {"pairing": "best_worst", "samples": 4})
    game = claims_sampled.g3()
    enumerated = claims_sampled.EnumeratedPlayer(algorithm, game).play(1).policies[1]
    sampled = claims_sampled.SampledPlayer(algorithm, game, prompts=4000).play(1).policies[1]
    assert np.abs(enumerated - sampled).sum() / 2 < 0.02


def test_spac_beats_the_data_policy_on_the_sparse_bandit():
    found = claims_offline.table((400,), 2)
    for name in claims_offline.SPAC_NAMES:
        assert np.mean(found[name][400]) < np.mean(found["data policy"][400]) - 0.4
    wins, even, losses = claims_offline.verdicts(found)
    assert wins + even + len(losses) == 2 * 12


# ---------------------------------------------------------------- verdicts


def test_digits_decide():
    assert agrees(0.0768675, ".0769")
    assert not agrees(0.0770, ".0769")
    assert agrees(4.349e-5, "4.35e-5")
    row = tabulated("X", "inpo", "c", "s", [("T=1", ".10", 0.104), ("T=2", ".20", 0.21)])
    assert (row.holds, row.verdict) == (False, "FAILS")
    assert replace(row, holds=None).verdict == "measured"
    assert replace(row, holds=True).verdict == "holds"
    assert replace(row, holds=True, refutes=True).verdict == "refuted"
    assert replace(row, holds=False, refutes=True).verdict == "FAILS"


class Detached:
    """A square whose gradient is wrong by a constant factor."""

    def __call__(self, batch: Batch) -> Loss:
        return Loss((batch.logps_R * batch.logps_R.detach()).sum())


def test_a_wrong_gradient_is_noticed():
    assert claims_gradient.gradient_error(Detached(), (), 0) > 0.1


def test_a_class_of_ones_own_is_checked():
    rows, _ = check("sparring.algorithms.inpo:INPO", "tabular", rounds=2)
    assert [row.id for row in rows] == ["F1", "D1"]
    assert not failing(list(rows))


# ---------------------------------------------------------------- the transformer's game


def test_the_response_space_is_complete():
    assert len(SEQUENCES) == len(set(SEQUENCES)) == len(set(TEXTS)) == 1 + 15 + 225
    assert [TEXTS.index(text) for text in ("", "a", "ab")] == [INDEX[""], INDEX["a"], INDEX["ab"]]


def test_the_matrix_oracle_is_a_preference():
    matrix = preference_matrix(PROMPTS[0], 0)
    assert np.abs(matrix + matrix.T - 1).max() < 1e-12
    assert not np.array_equal(matrix, preference_matrix(PROMPTS[1], 0))
    oracle = MatrixOracle(0)
    asked = [Comparison(PROMPTS[0], "ab", "c"), Comparison(PROMPTS[0], "c", "ab"), Comparison("?", "longer", "a")]
    first, second, unknown = oracle.judge(asked)
    assert first == pytest.approx(1 - second) == matrix[INDEX["ab"], INDEX["c"]]
    assert unknown == 0.5
    assert oracle.identity != MatrixOracle(1).identity


def test_enumeration_matches_the_models_own_logits(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    from sparring.games.transformer import write_model

    write_model(tmp_path, 0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    prompt = [0, 1, 15]
    probabilities = np.exp(enumerate_policy(model, [prompt])[0])
    assert probabilities.sum() == pytest.approx(1.0)
    with torch.no_grad():
        first = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        after = model(torch.tensor([[*prompt, 3]])).logits[0, -1].softmax(-1)
    assert probabilities[0] == pytest.approx(float(first[15]), abs=1e-6)
    assert probabilities[INDEX["d"]] == pytest.approx(float(first[3] * after[15]), abs=1e-6)
    assert probabilities[INDEX["da"]] == pytest.approx(float(first[3] * after[0]), abs=1e-6)


# ---------------------------------------------------------------- the page


def test_the_page_is_generated_from_its_data():
    spec = importlib.util.spec_from_file_location("make_certificates", DOCS / "make_certificates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = json.loads((DOCS / "certificates.json").read_text(encoding="utf-8"))
    message = "run: python docs/make_certificates.py --cached"
    assert (DOCS / "certificates.md").read_text(encoding="utf-8") == module.page(data), message
    assert not failing(module.claims_of(data))
    assert {row["algorithm"] for row in data["claims"]} == SHIPPED.keys()
    stored = {(row["algorithm"], row["id"]) for row in data["claims"]}
    now = {(row.algorithm, row.id) for name in ("inpo", "onpo", "comal") for row in check(name, "exact")[0]}
    assert now <= stored
