"""Tiny models of many architectures, for tests of what holds for every model; vocabulary as in `conftest.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from conftest import byte_tokenizer

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
HEAD = {"head_dim": 8}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SMALL_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, **HEAD}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}
WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2, **HEAD}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}

ZOO: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": 8, **HEAD}),
    "gpt2": ("GPT2", {"n_positions": 256}),
    "opt": ("OPT", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "bloom": ("Bloom", {}),
    "mpt": ("Mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}),
    "falcon_alibi": ("Falcon", {"alibi": True}),
    "gpt_neox": ("GPTNeoX", {}),
    "phi3": ("Phi3", {}),
    "granite": ("Granite", {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22}),
    "cohere": ("Cohere", {"logit_scale": 0.0625}),
    "cohere2": ("Cohere2", {"logit_scale": 0.25, "sliding_window": 8, **HEAD}),
    "olmo2": ("Olmo2", {}),
    "glm4": ("Glm4", HEAD),
    "gemma2": ("Gemma2", {"sliding_window": 64, "query_pre_attn_scalar": 8, **HEAD}),
    "gemma3": ("Gemma3Text", {"query_pre_attn_scalar": 8, **WINDOWS}),
    "gpt_oss": ("GptOss", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, **EXPERTS, **WINDOWS}),
    "llama4": ("Llama4Text", {**EXPERTS, **HEAD, "num_experts_per_tok": 1, "intermediate_size_mlp": 64}),
    "mixtral": ("Mixtral", {"router_jitter_noise": 0.1, **EXPERTS}),
    "phimoe": ("Phimoe", {"sliding_window": 8, **EXPERTS}),
    "qwen3_moe": ("Qwen3Moe", SMALL_EXPERTS),
    "olmoe": ("Olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    "granite_moe": ("GraniteMoe", {"logits_scaling": 8.0, **EXPERTS}),
    "deepseek_v3": (
        "DeepseekV3",
        {**SMALL_EXPERTS, **LATENT, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_key_value_heads": 4},
    ),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    "jamba": (
        "Jamba",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "falcon_h1": ("FalconH1", {"mamba_d_ssm": 64, "lm_head_multiplier": 0.25, **HEAD, **MAMBA2}),
    "bamba": ("Bamba", {"attn_layer_indices": [1, 3], **MAMBA2}),
    "qwen3_next": ("Qwen3Next", {"shared_expert_intermediate_size": 16, **SMALL_EXPERTS, **LINEAR}),
    "qwen3_5": ("Qwen3_5Text", {**HEAD, **LINEAR}),
    "olmo_hybrid": ("OlmoHybrid", LINEAR),
    "granite_hybrid": (
        "GraniteMoeHybrid",
        {
            "layer_types": ["mamba", "attention"] * 2,
            "logits_scaling": 8.0,
            "shared_intermediate_size": 32,
            **EXPERTS,
            **MAMBA2,
        },
    ),
    "nemotron_h": (
        "NemotronH",
        {
            "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 16,
            "n_groups": 1,
            "chunk_size": 8,
            **HEAD,
        },
    ),
    "zamba2": (
        "Zamba2",
        {
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "num_mem_blocks": 1,
            "mamba_d_state": 8,
            "n_mamba_heads": 8,
            "mamba_ngroups": 1,
            "chunk_size": 8,
        },
    ),
    "mamba": ("Mamba", {"state_size": 8}),
    "falcon_mamba": ("FalconMamba", {"state_size": 8}),
    "mamba2": ("Mamba2", {"state_size": 16, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "recurrent_gemma": (
        "RecurrentGemma",
        {"block_types": ["recurrent", "attention"], "attention_window_size": 64, **HEAD},
    ),
    "rwkv": ("Rwkv", {"attention_hidden_size": 32}),
    "xlstm": ("xLSTM", {"hidden_size": 64, "num_heads": 4, "num_blocks": 4}),
    "bert": ("Bert", {}),
}


def config(name: str, **changed: Any) -> Any:
    """The configuration of a tiny model of the zoo."""
    kind, fields = ZOO[name]
    return getattr(transformers, f"{kind}Config")(**{**SIZES, **fields, **changed})


def tiny(name: str, spread: float = 1.0, **changed: Any) -> PreTrainedModel:
    """A random model; `spread` multiplies its matrices, so that what a layer does shows."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(name, **changed)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight *= spread
    return model


def folder_of(model: PreTrainedModel, folder: Path) -> Path:
    """The model with the byte tokenizer in a folder."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
