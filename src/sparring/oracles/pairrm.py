"""PairRM (Jiang et al. 2023, arXiv 2306.02561) without its package, which does not work with transformers 5.

DeBERTa-v3 reads `<|source|> prompt <|candidate1|> a <|candidate2|> b`; a small head scores each candidate from the
states at its marker and at the source's:

    s_k = W2 tanh( W1 [h_source ; h_k] )          log-odds = mean over tasks of (s_1 - s_2)

Loads the layout of `llm-blender/PairRM-hf`: keys `pretrained_model.*` and `head_layer.{1,4}.*`, and marker ids in the
configuration. Leaves out: training.

    PairRM(Path("PairRM-hf"), torch.float32).log_odds([Comparison(prompt, a, b)], max_tokens=2048)

Shape suffixes: B rows, T tokens, D hidden size, K tasks.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from sparring.models.padding import right_padded
from sparring.models.weights import load_tokenizer, placed
from sparring.oracles.oracle import Comparison

with warnings.catch_warnings():  # its module uses torch.jit.script, which warns when it is imported
    warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
    from transformers import DebertaV2Config, DebertaV2Model

MARKERS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")
PROMPT_SHARE = 0.6
"""of max_tokens that the prompt may take, as in the original (1,224 of 2,048)"""


class _Network(nn.Module):
    """Names follow the stored keys."""

    def __init__(self, config: DebertaV2Config, tasks: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.pretrained_model = DebertaV2Model(config)
        # The dropouts of the original hold places 0 and 3, which name the weights 1 and 4.
        self.head_layer = nn.Sequential(
            nn.Identity(), nn.Linear(2 * width, width), nn.Tanh(), nn.Identity(), nn.Linear(width, tasks)
        )

    def forward(
        self, ids_BT: Int[Tensor, "B T"], mask_BT: Int[Tensor, "B T"], markers: Sequence[int]
    ) -> Float[Tensor, " B"]:
        """B: log-odds per row; every row holds each marker once."""
        states_BTD = self.pretrained_model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        source_BD, first_BD, second_BD = (states_BTD[ids_BT == marker] for marker in markers)
        first_BK, second_BK = (
            self.head_layer(torch.cat([source_BD, side_BD], -1)) for side_BD in (first_BD, second_BD)
        )
        return (first_BK - second_BK).mean(-1)


class PairRM:
    """The model in `folder`."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.shortened = 0
        config = DebertaV2Config.from_pretrained(folder)
        self.tokenizer: Any = load_tokenizer(folder)
        names = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
        self.markers = [getattr(config, name, None) for name in names]
        known = [self.tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS]
        if None in self.markers or self.markers != known:
            raise ValueError(
                f"oracle.model: {str(folder)!r} is not PairRM's layout: config.json gives the marker ids "
                f"{self.markers}, the tokenizer {known} for {', '.join(MARKERS)}. Use llm-blender/PairRM-hf or another "
                "format."
            )
        weights = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
        network = _Network(config, int(getattr(config, "n_tasks", 1)))
        missing, _ = network.load_state_dict(weights, strict=False)
        missing = [name for name in missing if not name.endswith("position_ids")]
        if missing:
            raise ValueError(
                f"oracle.model: {str(folder)!r} lacks {len(missing)} tensors of PairRM ({missing[0]}, ...)."
            )
        self.network = placed(network.to(dtype).eval())

    @torch.inference_mode()
    def log_odds(self, comparisons: Sequence[Comparison], max_tokens: int) -> list[float]:
        """Log-odds that the first answer is better."""
        rows = [self.ids(comparison, max_tokens) for comparison in comparisons]
        inputs = right_padded(rows, self.tokenizer.pad_token_id or 0, next(self.network.parameters()).device)
        return self.network(*inputs.values(), self.markers).float().tolist()

    def ids(self, comparison: Comparison, max_tokens: int) -> list[int]:
        """The three parts, each with the tokenizer's own first and last token; both answers get the same room."""
        source = self._part(0, comparison.prompt, int(PROMPT_SHARE * max_tokens))
        room = (max_tokens - len(source)) // 2
        answers = [self._part(1, comparison.a, room), self._part(2, comparison.b, room)]
        self.shortened += len(source) >= int(PROMPT_SHARE * max_tokens) or max(map(len, answers)) >= room
        return [*source, *answers[0], *answers[1]]

    def _part(self, index: int, text: str, room: int) -> list[int]:
        for marker in MARKERS:  # an answer that holds a marker would be read as another part
            text = text.replace(marker, marker.strip("<|>"))
        return self.tokenizer.encode(MARKERS[index] + text, truncation=True, max_length=room)
