"""Log-probabilities of responses under a causal language model, packed or padded.

`PolicyScorer` wraps any transformers causal model (with or without peft adapters): it runs the decoder body once over a
pack and projects response positions only. Once per model its values are compared with the model's own logits
(`verify`), so an unusual architecture is refused by name instead of being silently wrong. Leaves out: the use of
gradients (`fit.py`).

    scorer = PolicyScorer(model, layout="packed"); logps_R = scorer(scorer.pack(rollouts))

Shape suffixes: N response tokens of a pack, R its responses, V vocabulary, H hidden width, B T its rows and their
tokens, F all of these in one row.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparring.models.architecture import attention_window, is_exact, logit_scale, revealed, state_layers
from sparring.models.weights import plain_attention
from sparring.runtime.errors import first_line, reason_of
from sparring.training.attention import BRANCH_ATTENTION
from sparring.training.flex import FLEX_ATTENTION, check_flex
from sparring.training.lean import make_lean
from sparring.training.logprobs import token_logps
from sparring.training.packing import Layout, Pack, Rollout, make_pack, seeing

Attention = Literal["blocks", "flex"]
VERIFY_TOLERANCE = 1e-3
"""float32 nats per token, between our path and the model's own logits; both are exact to about 1e-5"""
ROUNDED_TOLERANCE = 0.5
"""the same where weights are in 4 bits or bfloat16: rounding gives up to 0.1, another head several nats"""
LEAK = {True: 1e-4, False: 0.1}
"""What a token may change where nothing sees it, as a share of what it changes where it is seen: in float32, where only
other sums in experts do, and where weights round."""
SEEN = 1e-2
"""what it must change where it is seen, as a share of the hidden states' size; else weights are enlarged for it"""
SHARP, SHARP_TOLERANCE = 10.0, 1e-2
"""Logits that show a head which is not the plain product, and nats per token between float32 values there."""
NOISE = ("jitter_noise", "router_jitter_noise")
"""attributes of routers that add noise while a model trains"""


def without_dropout(causal: nn.Module) -> None:
    """Switch the base model's dropout and its routers' noise off; an adapter's own stays.

    A fit moves log-ratios to a reference, and would also fit noise that only one of the two sides has.
    """
    for name, module in causal.named_modules():
        if isinstance(module, nn.Dropout) and "lora_" not in name:
            module.p = 0.0
        for attribute in ("attention_dropout", "attn_pdrop", "dropout", *NOISE):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)


def base_of(model: nn.Module) -> PreTrainedModel:
    """The transformers model itself, adapters inside it left in place."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return cast(PreTrainedModel, inner)


class PolicyScorer(nn.Module):
    """Sums of response-token log-probabilities, float32, one per response."""

    def __init__(self, model: nn.Module, layout: Layout = "packed", attention: Attention = "blocks") -> None:
        """`attention`: of the packed layout.

        Raises:
            ValueError: flex away from CUDA; or packed, for a model whose layers hand states from token to token.
        """
        super().__init__()
        self.model = model
        self.layout: Layout = layout
        causal = self.causal
        if layout == "packed" and (kinds := state_layers(causal)):
            raise ValueError(
                f"fit.layout = 'packed': {type(causal).__name__} hands states from token to token ({kinds} layers), so "
                "a response would read the one packed before it. Use fit.layout: padded."
            )
        self._window = attention_window(causal.config)
        self._scale = logit_scale(causal.config)
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
        return base_of(self.model)

    def pack(self, rollouts: Sequence[Rollout]) -> Pack:
        """The rollouts in this scorer's layout, on the model's device.

        Raises:
            ValueError: a packed sequence is longer than the model's attention reaches.
        """
        if self.layout == "packed" and self._window is not None:
            name, size = self._window
            longest = max(len(r.prompt_ids) + max(map(len, r.responses)) - 1 for r in rollouts)
            if longest > size:
                raise ValueError(
                    f"fit.layout = 'packed': {type(self.causal).__name__} uses {name} = {size} with a sequence of "
                    f"{longest} tokens, which the packed layout does not support. Use fit.layout: padded."
                )
        return make_pack(rollouts, self.layout, self.pad_id).to(self.causal.device)

    def token_logps(self, pack: Pack) -> Float[Tensor, " N"]:
        """N: log-probability of every response token in nats, float32."""
        causal = self.causal
        head = cast(nn.Linear, causal.get_output_embeddings())
        softcap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None)
        hidden_NH = self._hidden(pack).flatten(0, 1)[pack.predict_N]
        if self._scale != 1.0:
            hidden_NH = hidden_NH * self._scale
        return token_logps(hidden_NH, head.weight, pack.target_N, head.bias, softcap or 0.0)

    def _hidden(self, pack: Pack) -> Float[Tensor, "B T H"]:
        extra: dict[str, Any] = {} if pack.segments is None else {"segments": pack.segments}
        return self.causal.base_model(
            input_ids=pack.input_ids_BT,
            attention_mask=pack.mask_BT,
            position_ids=pack.positions_BT,
            use_cache=False,
            **extra,
        ).last_hidden_state

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
            raise ValueError(
                f"fit.attention = 'flex': its kernels cannot be compiled here ({reason_of(error)}). Set "
                "fit.attention: blocks."
            ) from error
        finally:
            self.zero_grad()

    @torch.no_grad()
    def verify(self) -> float:
        """Largest difference per token to the model's own float32 logits on a small probe.

        Raises:
            ValueError: they differ by more than rounding; names the architecture and the remedy.
        """
        worst = self._difference()
        if not worst <= (VERIFY_TOLERANCE if is_exact(self.causal) else ROUNDED_TOLERANCE):
            raise ValueError(
                f"fit.layout = {self.layout!r}: {type(self.causal).__name__} gives other log-probabilities in this "
                f"layout than by its own logits (up to {worst:.3g} nats per token). {self._remedy}"
            )
        return worst

    @torch.no_grad()
    def check_sight(self) -> None:
        """Check that a token changes what sees it and nothing else, and the head, however small the weights are.

        Near their random start a leak is smaller than any tolerance in nats: so it is measured against what the same
        token changes where it is seen, and weights that show nothing are enlarged.

        Raises:
            ValueError: a token changes what does not see it, or log-probabilities are not the model's own.
        """
        with revealed(self.causal, lambda: self._sight()[0], SEEN), self._sharpened():
            effect, leak = self._sight()
            worst = self._difference()
        name = type(self.causal).__name__
        if not leak <= LEAK[is_exact(self.causal)] * effect:
            raise ValueError(
                f"fit.layout = {self.layout!r}: in {name} a token changes places that do not see it (by {leak:.2g} of "
                f"the hidden states' size, and by {effect:.2g} where it is seen). {self._remedy}"
            )
        if not worst <= (SHARP_TOLERANCE if is_exact(self.causal) else ROUNDED_TOLERANCE):
            raise ValueError(
                f"fit.layout = {self.layout!r}: {name} gives other log-probabilities in this layout than by its own "
                f"logits (up to {worst:.3g} nats per token where logits are large). {self._remedy}"
            )

    @property
    def _remedy(self) -> str:
        return "Use fit.layout: padded." if self.layout == "packed" else "This architecture is not supported."

    def _probe(self) -> list[Rollout]:
        vocabulary = self.causal.config.get_text_config().vocab_size
        ids = [(7 * i + 3) % vocabulary for i in range(12)]
        return [Rollout(ids[:5], [ids[5:9], ids[9:12]])]

    def _difference(self) -> float:
        """Largest difference per token to the model's own logits, in nats."""
        causal, probe = self.causal, self._probe()
        try:
            logps_N = self.token_logps(self.pack(probe)).float()
            causal.set_attn_implementation("eager")
            plain = make_pack(probe, "padded", self.pad_id).to(causal.device)
            logits = causal(
                input_ids=plain.input_ids_BT, attention_mask=plain.mask_BT, position_ids=plain.positions_BT
            ).logits
            rows_NV = logits.flatten(0, 1)[plain.predict_N].float().log_softmax(-1)
            plain_logps_N = rows_NV.gather(1, plain.target_N[:, None])[:, 0]
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a model's code fails in any way on what it was not written for
            if isinstance(error, ValueError) and str(error).startswith("fit."):
                raise
            raise ValueError(
                f"fit.layout = {self.layout!r}: {type(causal).__name__} cannot be run in this layout "
                f"({first_line(error)}). {self._remedy}"
            ) from error
        finally:
            causal.set_attn_implementation(self._attention)
        return float((logps_N - plain_logps_N).abs().max())

    def _sight(self) -> tuple[float, float]:
        """What a token changes where it is seen, itself left out, and elsewhere: shares of the hidden states' size."""
        [(prompt, (a, b))] = self._probe()
        pack = self.pack([Rollout(prompt, [a, b]), Rollout(b, [a])])
        before_FH = self._hidden(pack).flatten(0, 1).float()
        effect = leak = 0.0
        # In both layouts: the first token of the prompt, first and last of its first branch, and one further on.
        for place in (0, len(prompt), len(prompt) + len(a) - 2, len(prompt) + len(a) + 1):
            ids_BT = pack.input_ids_BT.clone()
            ids_BT.view(-1)[place] += 1 if ids_BT.view(-1)[place] == 0 else -1
            after_FH = self._hidden(replace(pack, input_ids_BT=ids_BT)).flatten(0, 1).float()
            change_F = (after_FH - before_FH).abs().amax(1)
            seen_F = seeing(pack, place).to(change_F.device)
            leak = max(leak, float(change_F[~seen_F].max()))
            seen_F[place] = False
            if seen_F.any():
                effect = max(effect, float(change_F[seen_F].max()))
        size = float(before_FH.abs().max()) or 1.0
        return effect / size, leak / size

    @contextlib.contextmanager
    def _sharpened(self) -> Iterator[None]:
        """Enlarge hidden states before the head, so that its logits are as large as those of a trained model."""
        head = cast(nn.Linear, self.causal.get_output_embeddings())
        hidden = self._hidden(self.pack(self._probe())) * self._scale
        largest = float((hidden.to(head.weight.dtype) @ head.weight.T).abs().max())
        factor = max(1.0, SHARP / largest) if largest else 1.0

        def enlarge(module: nn.Module, args: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state * factor
            return output

        decoder: Any = self.causal.get_decoder()  # OPT's head calls it, past its base model
        hook = decoder.register_forward_hook(enlarge)
        try:
            yield
        finally:
            hook.remove()


def scorer_of(model: nn.Module) -> PolicyScorer:
    """A scorer in the packed layout, or in the padded one for models that cannot be packed: the same values, slower.

    Why a model cannot be packed is logged.

    Raises:
        ValueError: the model is supported in neither.
    """
    own = {module: vars(module).get("forward") for module in model.modules()}
    try:
        scorer = PolicyScorer(model).eval()
        scorer.verify()
    except ValueError as error:
        logging.getLogger("sparring").warning("note  padded, which is slower, since not packed: %s", error)
        for module, forward in own.items():  # as they were before `make_lean`
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward
        scorer = PolicyScorer(model, "padded").eval()
        scorer.verify()
    return scorer
