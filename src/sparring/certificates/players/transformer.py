"""The transformer player: a tiny Llama whose responses can all be listed, through the same stages as any model.

Fifteen letters and an end token, at most two new tokens: 241 responses. The oracle answers from a seeded preference
matrix with a transitive and a cyclic part, `sparring.rounds.run.run` does everything else, and the probabilities of all
responses under every round's policy are computed by enumeration. So the duality gap of a language model is a
number here. Leaves out: methods that need data (SPIN, SPAC).

    certify_transformer("inpo", {"eta": 1.0}, rounds=5, seed=0)["gap"]
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from sparring.algorithms.algorithm import ANY_DATA, Algorithm, PolicyRef, find_algorithm
from sparring.certificates.build import NotPlayable, build_for_game, goal
from sparring.games.equilibrium import duality_gap, regularised_gap
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise
from sparring.games.trajectory import Trajectory
from sparring.recipe.reading import parse_recipe
from sparring.rounds.policies import Policies
from sparring.rounds.run import run
from sparring.rounds.store import Store
from sparring.runtime.progress import Progress
from sparring.training.packing import Rollout
from sparring.training.scorer import PolicyScorer

LETTERS = "abcdefghijklmno"
END = "<|end|>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}" + END + "{% endfor %}"
PROMPTS = ("ab", "cd", "ef", "gh")
HELD_OUT = ("ij", "kl")
SEQUENCES: tuple[tuple[int, ...], ...] = (
    (len(LETTERS),),
    *((i, len(LETTERS)) for i in range(len(LETTERS))),
    *itertools.product(range(len(LETTERS)), repeat=2),
)
"""Every response as tokens: the end alone, a letter and the end, or two letters cut off by the token limit"""
TEXTS = tuple("".join(LETTERS[i] for i in ids if i < len(LETTERS)) for ids in SEQUENCES)
INDEX = {text: index for index, text in enumerate(TEXTS)}
FEATURES = 4
"""of a response, in pairs that play rock-paper-scissors against each other"""


@cache
def preference_matrix(prompt: str, seed: int) -> Array:
    """(241, 241): sigmoid of a reward difference plus a skew form, both sums over the letters of a response."""
    rng = np.random.default_rng([seed, *map(ord, prompt)])
    letters = rng.normal(size=(2, len(LETTERS) + 1, FEATURES + 1))
    places = np.array([(ids[0], ids[1] if len(ids) > 1 else len(LETTERS)) for ids in SEQUENCES])
    features = letters[0, places[:, 0]] + letters[1, places[:, 1]]
    rewards, vectors = features[:, 0], features[:, 1:]
    turned = np.stack([vectors[:, 1::2], -vectors[:, ::2]], axis=-1).reshape(vectors.shape)
    logits = 0.5 * (rewards[:, None] - rewards[None, :]) + 0.5 * vectors @ turned.T
    return 0.5 + 0.5 * np.tanh(logits / 2)


class MatrixOracle:
    """Looks up the preference of two known responses; anything else ties."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @property
    def identity(self) -> str:
        """The matrix is the seed's."""
        return f"matrix(seed={self.seed})"

    def judge(self, comparisons: Sequence[tuple[str, str, str]]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison."""
        return np.array([self._one(*comparison) for comparison in comparisons], dtype=np.float64)

    def _one(self, prompt: str, a: str, b: str) -> float:
        if a not in INDEX or b not in INDEX:
            return 0.5
        return float(preference_matrix(prompt, self.seed)[INDEX[a], INDEX[b]])


def write_model(folder: Path, seed: int) -> None:
    """A two-layer Llama and its tokenizer in Hugging Face format."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(LETTERS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    _save(folder, tokenizer, TEMPLATE, seed)


def save_tiny_llama(folder: Path, words: Sequence[str], seed: int) -> None:
    """As `write_model`, whose tokens are whole words; all others are one unknown word."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    unknown = "<unknown>"
    known = {word: place for place, word in enumerate([*words, unknown])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    _save(folder, tokenizer, TEMPLATE.replace(END, f" {END}"), seed)


def _save(folder: Path, tokenizer: Any, template: str, seed: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(END),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


@torch.no_grad()
def enumerate_policy(model: Any, prompts: Sequence[Sequence[int]]) -> Array:
    """(C, 241): log-probabilities of every response, by the scorer that training uses."""
    scorer = PolicyScorer(model, "padded")
    logps_R = scorer(scorer.pack([Rollout(prompt, SEQUENCES) for prompt in prompts]))
    return log_normalise(logps_R.double().cpu().numpy().reshape(len(prompts), len(SEQUENCES)))


def recipe(folder: Path, algorithm: Algorithm, name: str, rounds: int, seed: int) -> dict[str, Any]:
    """An ordinary recipe; model and data are files in `folder`."""
    write_model(folder / "model", seed)
    for part, prompts in (("train", PROMPTS), ("held_out", HELD_OUT)):
        rows = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        (folder / f"{part}.jsonl").write_text(rows, encoding="utf-8")
    return {
        "model": {"path": str(folder / "model")},
        "data": {part: {"path": str(folder / f"{part}.jsonl")} for part in ("train", "held_out")},
        "algorithm": {"name": name, **algorithm.model_dump(mode="json")},
        "oracle": {"name": "sparring.certificates.players.transformer:MatrixOracle", "seed": seed},
        "rounds": rounds,
        "seed": seed,
        "sampling": {"max_new_tokens": 2, "batch_size": 512, "precision": "float32"},
        "fit": {
            "learning_rate": 2e-3,
            "epochs": 40,
            "batch_size": len(PROMPTS),
            "precision": "float32",
            "layout": "padded",
            "checkpoint_minutes": 60,
            "tripwires": {"repetition": None},
        },
        "evaluation": {"prompts": 1, "samples": 1, "every_iterate": False, "bootstrap": 100},
    }


DEFAULTS: Mapping[str, Any] = {"samples": 96, "pairing": "all", "target": "win_rate", "soft_labels": True}
"""Where an algorithm has such a field and --set does not say otherwise: all pairs of many samples, labels without
noise. Fitting i.i.d. verdicts on 241 responses needs far more samples for the same distance to the exact step."""


def build_for_transformer(name: str, settings: Mapping[str, Any]) -> Algorithm:
    """An algorithm at the scale of games, with many samples."""
    kind = find_algorithm(name)
    own_pairing = "pairing" not in kind.on_games or {"pairing", "target"} & settings.keys()
    defaults = {"samples": DEFAULTS["samples"]} if own_pairing else DEFAULTS
    return build_for_game(name, {**{k: v for k, v in defaults.items() if k in kind.model_fields}, **settings})


def certify_transformer(name: str, settings: Mapping[str, Any], rounds: int, seed: int = 0) -> dict[str, Any]:
    """Play the rounds, and the exact gaps of round 0..rounds; distances are means over prompts.

    Raises:
        NotPlayable: the algorithm needs data that this game does not have.
    """
    algorithm = build_for_transformer(name, settings)
    if needed := algorithm.steps(0, ANY_DATA)[0].columns():
        raise NotPlayable(f"{algorithm.about.title}: the transformer player has no data ({', '.join(needed)}).")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parsed = parse_recipe(recipe(folder, algorithm, name, rounds, seed))
        run(parsed, folder / "run", Progress(quiet=True))
        history = _policies(Policies(Store(folder / "run"), parsed.model), rounds)
    return _report(algorithm, history, seed)


def _policies(policies: Policies, rounds: int) -> Array:
    """(T + 1, C, 241): every round's policy."""
    prompts = [policies.chat.prompt_ids([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    loaded = (policies.load(PolicyRef(t), torch.float32) for t in range(rounds + 1))
    return np.stack([enumerate_policy(model, prompts) for model in loaded])


def _report(algorithm: Algorithm, history: Array, seed: int) -> dict[str, Any]:
    preference = np.stack([preference_matrix(prompt, seed) for prompt in PROMPTS])
    reference = np.exp(history[0])
    weights = np.full(len(PROMPTS), 1 / len(PROMPTS))
    game = Game("transformer", preference, reference / reference.sum(-1, keepdims=True), None, None, weights)
    policies, tau = Trajectory(game, history).policies, algorithm.regularisation()
    plain = duality_gap(preference, policies).mean(axis=1)
    own_gap = regularised_gap(preference, policies, game.reference, tau).mean(axis=1) if tau else plain
    closed = [algorithm.exact_step(game, list(history[: t + 1])) for t in range(len(history) - 1)]
    steps = [step for step in closed if step is not None]

    def distances(targets: Sequence[Array]) -> list[float]:
        """Total variation of each round's policy from its target, mean over prompts."""
        rounds = zip(targets, history[1:], strict=True)
        return [float(np.abs(np.exp(target) - np.exp(policy)).sum(-1).mean() / 2) for target, policy in rounds]

    return {
        "algorithm": algorithm.about.title,
        "settings": algorithm.model_dump(mode="json"),
        "player": "transformer",
        "rounds": len(history) - 1,
        "responses": len(SEQUENCES),
        "prompts": len(PROMPTS),
        "solves": goal(algorithm),
        "duality_gap_last": plain.tolist(),
        "gap": own_gap.tolist(),
        "distance_to_exact_step": distances(steps) if len(steps) == len(closed) else None,
        "distance_moved": distances(list(history[:-1])),
    }
