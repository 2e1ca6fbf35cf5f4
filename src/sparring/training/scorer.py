"""Log-probabilities of responses under a causal language model, packed or padded.

`PolicyScorer` wraps any transformers causal model (with or without peft adapters): it runs the decoder body once over a
pack and projects response positions only. Once per model its values are compared with the model's own logits
(`verify`), so an unusual architecture is refused by name instead of being silently wrong. Leaves out: the use of
gradients (`fit.py`).

    scorer = PolicyScorer(model, layout="packed"); logps_R = scorer(scorer.pack(rollouts))

Shape suffixes: N response tokens of a pack, R its responses, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparring.models.weights import plain_attention
from sparring.training.attention import BRANCH_ATTENTION
from sparring.training.flex import FLEX_ATTENTION, check_flex
from sparring.training.lean import make_lean
from sparring.training.logprobs import token_logps
from sparring.training.packing import Layout, Pack, Rollout, make_pack

Attention = Literal["blocks", "flex"]
VERIFY_TOLERANCE = 1e-3
"""float32 nats per token, between our path and the model's own logits; both are exact to about 1e-5"""
ROUNDED_TOLERANCE = 0.5
"""the same where weights are in 4 bits or bfloat16: rounding gives up to 0.1, another head several nats"""


def without_dropout(causal: nn.Module) -> None:
    """Switch the base model's dropout off; an adapter's own stays.

    A fit moves log-ratios to a reference, and would also fit noise that only one of the two sides has.
    """
    for name, module in causal.named_modules():
        if isinstance(module, nn.Dropout) and "lora_" not in name:
            module.p = 0.0
        for attribute in ("attention_dropout", "attn_pdrop", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)


class PolicyScorer(nn.Module):
    """Sums of response-token log-probabilities, float32, one per response."""

    def __init__(self, model: nn.Module, layout: Layout = "packed", attention: Attention = "blocks") -> None:
        """`attention`: of the packed layout.

        Raises:
            ValueError: flex away from CUDA.
        """
        super().__init__()
        self.model = model
        self.layout: Layout = layout
        causal = self.causal
        self.pad_id = int(causal.config.get_text_config().pad_token_id or 0)
        without_dropout(causal)
        if layout == "packed" and attention == "flex":
            check_flex(causal.device)
        packed = {"blocks": BRANCH_ATTENTION, "flex": FLEX_ATTENTION}[attention]
        self._attention = packed if layout == "packed" else plain_attention(causal)
        causal.set_attn_implementation(self._attention)
        if layout == "packed":
            make_lean(causal)

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model itself, adapters inside it left in place."""
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model  # type: ignore
        return cast(PreTrainedModel, inner)

    def pack(self, rollouts: Sequence[Rollout]) -> Pack:
        """The rollouts in this scorer's layout, on the model's device."""
        return make_pack(rollouts, self.layout, self.pad_id).to(self.causal.device)

    def token_logps(self, pack: Pack) -> Float[Tensor, " N"]:
        """N: log-probability of every response token in nats, float32."""
        causal = self.causal
        extra: dict[str, Any] = {} if pack.segments is None else {"segments": pack.segments}
        hidden = causal.base_model(
            input_ids=pack.input_ids_BT,
            attention_mask=pack.mask_BT,
            position_ids=pack.positions_BT,
            use_cache=False,
            **extra,
        ).last_hidden_state
        head = cast(nn.Linear, causal.get_output_embeddings())
        softcap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None)
        return token_logps(hidden.flatten(0, 1)[pack.predict_N], head.weight, pack.target_N, head.bias, softcap or 0.0)

    def forward(self, pack: Pack) -> Float[Tensor, " R"]:
        """R: log-probability of every response in nats, summed over its tokens."""
        logps_N = self.token_logps(pack)
        zeros = logps_N.new_zeros(pack.num_responses)
        return zeros.index_add(0, pack.response_N, logps_N)

    def compile_attention(self) -> None:
        """Run flex's kernels once, forward and backward, on a pack of the usual kind; nothing for blocks.

        Raises:
            ValueError: they cannot be compiled here.
        """
        if self._attention != FLEX_ATTENTION:
            return
        ids = [7] * 200
        try:
            self(self.pack([Rollout(ids, [ids[:150], ids[:90]])])).sum().backward()
        except Exception as error:  # a compiler's errors have no common class
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(
                f"fit.attention = 'flex': its kernels cannot be compiled here ({reason}). Set fit.attention: blocks."
            ) from error
        finally:
            self.zero_grad()

    @torch.no_grad()
    def verify(self) -> float:
        """Largest difference per token to the model's own float32 logits on a small probe.

        Raises:
            ValueError: they differ by more than rounding; names the architecture and the remedy.
        """
        causal, layout = self.causal, self.layout
        vocabulary = causal.config.get_text_config().vocab_size
        ids = [(7 * i + 3) % vocabulary for i in range(12)]
        probe = [Rollout(ids[:5], [ids[5:9], ids[9:12]])]
        remedy = "Use fit.layout: padded." if layout == "packed" else "This architecture is not supported."
        try:
            logps_N = self.token_logps(self.pack(probe)).float()
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"fit.layout = {layout!r}: {type(causal).__name__} cannot be run in this layout ({error}). {remedy}"
            ) from error
        causal.set_attn_implementation("eager")
        try:
            plain = make_pack(probe, "padded", self.pad_id).to(causal.device)
            logits = causal(
                input_ids=plain.input_ids_BT, attention_mask=plain.mask_BT, position_ids=plain.positions_BT
            ).logits
            rows_NV = logits.flatten(0, 1)[plain.predict_N].float().log_softmax(-1)
            plain_logps_N = rows_NV.gather(1, plain.target_N[:, None])[:, 0]
        finally:
            causal.set_attn_implementation(self._attention)
        worst = float((logps_N - plain_logps_N).abs().max())
        exact = causal.dtype == torch.float32 and not getattr(causal, "is_quantized", False)
        if not worst <= (VERIFY_TOLERANCE if exact else ROUNDED_TOLERANCE):
            raise ValueError(
                f"fit.layout = {layout!r}: {type(causal).__name__} gives other log-probabilities in this layout "
                f"than by its own logits (up to {worst:.3g} nats per token). {remedy}"
            )
        return worst
