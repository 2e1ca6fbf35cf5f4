"""Tiny models of many architectures, for tests of what holds for every model; vocabulary 260 as in `conftest.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
ATTENTION = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}


def _config(name: str, **fields: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, f"{name}Config")(**{**SIZES, **fields})


CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": _config("Llama"),
    "mistral_window": _config("Mistral", sliding_window=8, **ATTENTION),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=260,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=256,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=260,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        word_embed_proj_dim=32,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=260, hidden_size=32, n_layer=2, n_head=4, pad_token_id=256, eos_token_id=256, bos_token_id=None
    ),
    "mpt": lambda: transformers.MptConfig(
        vocab_size=260, d_model=32, n_layers=2, n_heads=4, max_seq_len=256, pad_token_id=256, eos_token_id=256
    ),
    "falcon_alibi": lambda: transformers.FalconConfig(
        vocab_size=260,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        alibi=True,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "phi3": _config("Phi3"),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "granite": _config(
        "Granite", logits_scaling=8.0, residual_multiplier=0.22, embedding_multiplier=12.0, attention_multiplier=0.25
    ),
    "cohere": _config("Cohere", logit_scale=0.0625),
    "cohere2": _config("Cohere2", logit_scale=0.25, sliding_window=8, **ATTENTION),
    "olmo2": _config("Olmo2"),
    "smollm3": _config("SmolLM3"),
    "glm4": _config("Glm4", **ATTENTION),
    "gemma2": _config("Gemma2", sliding_window=64, query_pre_attn_scalar=8, **ATTENTION),
    "gemma3": _config(
        "Gemma3Text",
        sliding_window=8,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        **ATTENTION,
    ),
    "gpt_oss": _config(
        "GptOss",
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        **ATTENTION,
    ),
    "llama4": lambda: transformers.Llama4TextConfig(
        **{
            **SIZES,
            "intermediate_size_mlp": 64,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 8,
            **ATTENTION,
        }
    ),
    "mixtral": _config("Mixtral", num_local_experts=4, num_experts_per_tok=2, router_jitter_noise=0.1),
    "qwen3_moe": _config("Qwen3Moe", **EXPERTS, **ATTENTION),
    "olmoe": _config("Olmoe", num_experts=4, num_experts_per_tok=2),
    "granitemoe": _config("GraniteMoe", num_local_experts=4, num_experts_per_tok=2, logits_scaling=8.0),
    "phimoe": _config("Phimoe", num_local_experts=4, num_experts_per_tok=2),
    "deepseek_v3": _config(
        "DeepseekV3",
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        n_group=1,
        topk_group=1,
        kv_lora_rank=8,
        q_lora_rank=8,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        num_key_value_heads=4,
        first_k_dense_replace=1,
    ),
    "lfm2": _config("Lfm2", layer_types=["conv", "full_attention"] * 2, conv_L_cache=3),
    "jamba": _config(
        "Jamba",
        num_experts=4,
        num_experts_per_tok=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=8,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
    ),
    "falcon_h1": _config(
        "FalconH1", mamba_d_ssm=64, lm_head_multiplier=0.25, ssm_multipliers=[1.0] * 5, **ATTENTION, **MAMBA2
    ),
    "bamba": _config("Bamba", attn_layer_indices=[1, 3], **MAMBA2),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=260,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=8,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "falcon_mamba": lambda: transformers.FalconMambaConfig(
        vocab_size=260,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=8,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "mamba2": lambda: transformers.Mamba2Config(
        vocab_size=260,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=16,
        num_heads=8,
        head_dim=8,
        n_groups=1,
        chunk_size=8,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "qwen3_next": _config(
        "Qwen3Next",
        layer_types=["linear_attention", "full_attention"] * 2,
        shared_expert_intermediate_size=16,
        **EXPERTS,
        **ATTENTION,
        **LINEAR,
    ),
    "qwen3_5": _config("Qwen3_5Text", layer_types=["linear_attention", "full_attention"] * 2, **ATTENTION, **LINEAR),
    "granite_hybrid": _config(
        "GraniteMoeHybrid",
        layer_types=["mamba", "attention"] * 2,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=32,
        logits_scaling=8.0,
        mamba_expand=2,
        **MAMBA2,
    ),
    "nemotron_h": lambda: transformers.NemotronHConfig(
        **{
            **SIZES,
            "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 16,
            "n_groups": 1,
            "chunk_size": 8,
            **ATTENTION,
        }
    ),
    "zamba2": _config(
        "Zamba2",
        num_mem_blocks=1,
        mamba_d_state=8,
        n_mamba_heads=8,
        mamba_ngroups=1,
        chunk_size=8,
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
    ),
    "olmo_hybrid": _config("OlmoHybrid", layer_types=["linear_attention", "full_attention"] * 2, **LINEAR),
    "recurrent_gemma": lambda: transformers.RecurrentGemmaConfig(
        **{
            **SIZES,
            "lru_width": 32,
            "attention_window_size": 64,
            "block_types": ["recurrent", "attention"],
            **ATTENTION,
        }
    ),
    "rwkv": lambda: transformers.RwkvConfig(
        vocab_size=260,
        hidden_size=32,
        num_hidden_layers=2,
        attention_hidden_size=32,
        intermediate_size=64,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
    "xlstm": lambda: transformers.xLSTMConfig(
        vocab_size=260,
        hidden_size=64,
        num_heads=4,
        num_hidden_layers=2,
        num_blocks=2,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    ),
}


def tiny(name: str, spread: float = 1.0, seed: int = 0) -> PreTrainedModel:
    """A random model; `spread` multiplies its matrices, so that what a layer does shows."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and spread != 1.0:
                weight *= spread
    return model
