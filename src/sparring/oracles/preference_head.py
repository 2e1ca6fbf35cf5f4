"""A small preference model on frozen sentence embeddings: trained in a minute on a CPU, milliseconds an answer.

With unit embeddings e of the prompt p and the answer y, x(p, y) = standardised [ e_y ; e_p * e_y ], and

    bradley_terry   log-odds = w . (x_a - x_b)
    pairwise        log-odds = w . (x_a - x_b) + sum_k (u_k . x_a)(v_k . x_b) - (v_k . x_a)(u_k . x_b)

The second sum is skew-symmetric, so P(a, b) + P(b, a) = 1 and circles can be expressed; with few pairs it is noise. The
encoder reads the first 256 tokens of a text, and the head does not see an answer's length. Leaves out: everything that
needs close reading - negations, numbers, code; `docs/oracles/train.md` measures the cost.

    PreferenceHead("runs/my-oracle").judge([Comparison(prompt, a, b)])

Shape suffixes: N comparisons, D width of an embedding, F = 2 D features of an answer, K rank of the second sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import Tensor

from sparring.models.identity import hash_weights
from sparring.models.weights import resolve_model
from sparring.oracles.embedding import SentenceEmbedder, encoder_identity
from sparring.oracles.oracle import Comparison
from sparring.runtime.files import hash_file, read_object, write_json

Kind = Literal["bradley_terry", "pairwise"]
RANK = 4
"""of the skew-symmetric part, in pairs of directions"""
L2 = (1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""weights of the penalty, per pair, that cross-validation chooses from"""
FOLDS = 4
STEPS = 200
WEIGHTS = "head.safetensors"

Rows = Mapping[str, Float[np.ndarray, " D"]]
"""embeddings by text"""


@dataclass(frozen=True, slots=True)
class Head:
    """Weights: `mean` and `scale` standardise features; `left` and `right` have no rows (K = 0) for a reward."""

    mean: Float[Tensor, " F"]
    scale: Float[Tensor, " F"]
    linear: Float[Tensor, " F"]
    left: Float[Tensor, "K F"]
    right: Float[Tensor, "K F"]

    def log_odds(self, a_NF: Float[Tensor, "N F"], b_NF: Float[Tensor, "N F"]) -> Float[Tensor, " N"]:
        """N: log-odds that a beats b, of raw features."""
        return _log_odds(
            (a_NF - self.mean) / self.scale, (b_NF - self.mean) / self.scale, self.linear, self.left, self.right
        )


def _log_odds(
    a_NF: Float[Tensor, "N F"],
    b_NF: Float[Tensor, "N F"],
    linear: Float[Tensor, " F"],
    left: Float[Tensor, "K F"],
    right: Float[Tensor, "K F"],
) -> Float[Tensor, " N"]:
    skew_N = ((a_NF @ left.T) * (b_NF @ right.T) - (a_NF @ right.T) * (b_NF @ left.T)).sum(-1)
    return (a_NF - b_NF) @ linear + skew_N


def features(comparisons: Sequence[Comparison], rows: Rows) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N F"]]:
    """N x F: raw features of the first and of the second answers, float64; F = 2 D."""
    prompts, first, second = (
        np.stack([rows[text] for text in texts]).astype(np.float64) for texts in zip(*comparisons, strict=True)
    )
    return tuple(torch.from_numpy(np.concatenate([side, prompts * side], 1)) for side in (first, second))  # type: ignore[return-value]


def fit_head(
    kind: Kind,
    comparisons: Sequence[Comparison],
    labels: Float[np.ndarray, " N"],
    rows: Rows,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Head:
    """The head of least penalised log-loss; the penalty is chosen by cross-validation over prompts."""
    a_NF, b_NF = features(comparisons, rows)
    both = torch.cat([a_NF, b_NF])
    mean, scale = both.mean(0), both.std(0).clamp(min=1e-6)
    a_NF, b_NF = (a_NF - mean) / scale, (b_NF - mean) / scale
    truth_N = torch.from_numpy(np.asarray(labels, dtype=np.float64))
    prompts = sorted({c.prompt for c in comparisons})
    place = {prompt: i for i, prompt in enumerate(np.random.default_rng(seed).permutation(np.array(prompts, object)))}
    fold_N = torch.tensor([place[c.prompt] % FOLDS for c in comparisons])
    losses = {}
    for l2 in L2 if len(prompts) >= FOLDS else L2[-1:]:
        parts = []
        for fold in range(FOLDS if len(prompts) >= FOLDS else 0):
            fitted, tested = fold_N != fold, fold_N == fold
            weights = _minimise(kind, a_NF[fitted], b_NF[fitted], truth_N[fitted], l2, seed)
            parts.append(_log_loss(_log_odds(a_NF[tested], b_NF[tested], *weights), truth_N[tested]).sum())
        losses[l2] = float(sum(parts)) / len(comparisons)
        say(f"penalty {l2:g}: cross-validated log-loss {losses[l2]:.4f}")
    best = min(losses, key=lambda l2: losses[l2])
    return Head(mean, scale, *_minimise(kind, a_NF, b_NF, truth_N, best, seed))


def _log_loss(odds_N: Float[Tensor, " N"], truth_N: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    return torch.nn.functional.binary_cross_entropy_with_logits(odds_N, truth_N, reduction="none")


def _minimise(
    kind: Kind,
    a_NF: Float[Tensor, "N F"],
    b_NF: Float[Tensor, "N F"],
    truth_N: Float[Tensor, " N"],
    l2: float,
    seed: int,
) -> tuple[Float[Tensor, " F"], Float[Tensor, "K F"], Float[Tensor, "K F"]]:
    """The weights of `linear`, `left` and `right` at the least penalised loss."""
    size, rank = a_NF.shape[1], RANK if kind == "pairwise" else 0
    noise = torch.Generator().manual_seed(seed)
    linear = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    # Not zero: there the gradient of a product vanishes.
    left, right = (
        (torch.randn(rank, size, generator=noise, dtype=torch.float64) / size).requires_grad_() for _ in range(2)
    )
    weights = [linear, left, right]
    optimizer = torch.optim.LBFGS(weights, max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Float[Tensor, ""]:
        optimizer.zero_grad()
        penalty = l2 * sum(weight.square().sum() for weight in weights)
        loss = _log_loss(_log_odds(a_NF, b_NF, *weights), truth_N).mean() + penalty
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return linear.detach(), left.detach(), right.detach()


def save_head(head: Head, folder: Path, embedder: str) -> None:
    """Write the weights and the name and hash of their encoder."""
    tensors = {name: getattr(head, name).contiguous() for name in ("mean", "scale", "linear", "left", "right")}
    about = {"embedder": embedder, "embedder_weights": hash_weights(resolve_model(embedder))}
    save_file(tensors, folder / WEIGHTS, metadata={name: str(value) for name, value in about.items()})
    write_json(folder / "head.json", about)


class PreferenceHead:
    """Loads what `sparring oracle train --method head` wrote to `model`."""

    title = "preference_head"
    about = (
        "A small preference model on frozen sentence embeddings: trained in a minute on a CPU, milliseconds an answer."
    )

    def __init__(
        self,
        model: Annotated[str, Field(description="a folder written by `sparring oracle train --method head`")],
        temperature: Annotated[
            float, Field(gt=0, description="divides the log-odds: above 1 softer, below 1 harder")
        ] = 1.0,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"oracle.temperature = {temperature}: give a positive number.")
        folder = Path(model)
        if not (folder / WEIGHTS).exists():
            raise ValueError(f"oracle.model: {model!r} holds no {WEIGHTS}. Make one with `sparring oracle train`.")
        about = read_object(folder / "head.json", "embedder", "embedder_weights")
        encoder = resolve_model(about["embedder"])
        if (installed := hash_weights(encoder)) != about["embedder_weights"]:
            raise ValueError(
                f"oracle.model: {model!r} was trained on another {about['embedder']!r} than is here (weights "
                f"{about['embedder_weights'][:12]}, here {installed[:12]}). Install that one, or train again."
            )
        self.temperature = temperature
        self.head = Head(**load_file(folder / WEIGHTS))
        self.embedder = SentenceEmbedder(encoder)
        self._identity = f"preference_head({hash_file(folder / WEIGHTS)[:16]};embedder={encoder_identity(encoder)}"

    @property
    def identity(self) -> str:
        """The head, its encoder and the temperature."""
        return f"{self._identity};temperature={self.temperature:g})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b), float64."""
        if not comparisons:
            return np.zeros(0)
        texts = list(dict.fromkeys(text for c in comparisons for text in c))
        rows = dict(zip(texts, self.embedder.embed(texts), strict=True))
        odds = self.head.log_odds(*features(comparisons, rows))
        return expit(odds.numpy() / self.temperature)
