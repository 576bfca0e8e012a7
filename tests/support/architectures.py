# SPDX-License-Identifier: Apache-2.0
"""Tiny configurations of every decoder that both vLLM and transformers know, generated."""

from __future__ import annotations

from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from vllm.model_executor.models.registry import _TEXT_GENERATION_MODELS

_SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "initializer_range": 0.15,
    "init_std": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # width
    "hidden_size": 128,
    "n_embd": 128,
    "d_model": 128,
    "word_embed_proj_dim": 128,
    "intermediate_size": 160,
    "ffn_hidden_size": 160,
    "ffn_dim": 160,
    "n_inner": 160,
    # depth
    "num_hidden_layers": 4,
    "n_layer": 4,
    "n_layers": 4,
    "num_layers": 4,
    # heads
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rotary_dim": 16,
    "max_position_embeddings": 256,
    "n_positions": 256,
    "max_seq_len": 256,
    # experts
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "moe_num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "moe_intermediate_size": 40,
    "shared_expert_intermediate_size": 40,
    "shared_intermediate_size": 40,
    "n_group": 1,
    "topk_group": 1,
    # latent attention
    "kv_lora_rank": 48,
    "q_lora_rank": 56,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    # state spaces
    "state_size": 16,
    "mamba_d_state": 16,
    "mamba_d_ssm": 256,
    "mamba_n_heads": 8,
    "mamba_d_head": 32,
    "mamba_dt_rank": 8,
    "time_step_rank": 8,
    "num_heads": 8,
    "n_mamba_heads": 8,
}


def architectures() -> dict[str, str]:
    """Architecture -> model type, of what vLLM registers and transformers has a class for."""
    known: dict[str, str] = {}
    for model_type, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        for name in (names,) if isinstance(names, str) else names:
            # Of a model of text and pictures, and its part for text, the part is the decoder.
            if name not in known or model_type.endswith("_text"):
                known[name] = model_type
    return {name: known[name] for name in sorted(_TEXT_GENERATION_MODELS) if name in known}


def configuration(architecture: str) -> transformers.PretrainedConfig:
    """The default configuration of ``architecture`` with each size that it has made small."""
    kind = CONFIG_MAPPING[architectures()[architecture]]
    default = kind()
    names = {*vars(default), *kind.attribute_map}
    sizes = {name: value for name, value in _SIZES.items() if name in names}
    made = kind(**{**sizes, **_SPECIAL.get(architecture, {})})
    made.architectures = [architecture]
    return made


_SPECIAL: dict[str, dict[str, Any]] = {
    "DeepseekV3ForCausalLM": {
        "head_dim": 16,  # the rotated part of a head
        "topk_method": "noaux_tc",  # without it vLLM's class has no bias of experts
    },
    "Gemma2ForCausalLM": {"hidden_act": "gelu_pytorch_tanh"},
    "Glm4MoeForCausalLM": {"head_dim": 32},
    "LongcatFlashForCausalLM": {"head_dim": 16},
    "DbrxForCausalLM": {
        "attn_config": {"clip_qkv": 8.0, "kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 160, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "Lfm2ForCausalLM": {"conv_dim": 128},
    "Mamba2ForCausalLM": {"num_attention_heads": 8},
    # What vLLM's classes take for granted, as in every published checkpoint.
    "Dots1ForCausalLM": {
        "n_shared_experts": 1,
        "moe_layer_freq": 1,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
    },
    "FalconForCausalLM": {
        "ffn_hidden_size": 512,
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
    },
    "HunYuanDenseV1ForCausalLM": {"use_qk_norm": True},
    "HunYuanMoEV1ForCausalLM": {
        "use_qk_norm": True,
        "moe_intermediate_size": 160,
        "use_mixed_mlp_moe": True,
        "num_shared_expert": 1,
        "moe_topk": 2,
    },
    "Llama4ForCausalLM": {
        "intermediate_size_mlp": 160,
        "attention_chunk_size": 64,
        "num_experts_per_tok": 1,  # weights are applied to the input
    },
    "OlmoForCausalLM": {"num_key_value_heads": 4},
    "PhiForCausalLM": {"intermediate_size": 512, "num_key_value_heads": 4},
    "GraniteMoeHybridForCausalLM": {"layer_types": ["mamba", "attention"] * 2},
    "JambaForCausalLM": {
        "use_mamba_kernels": False,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
    },
}
"""What an architecture needs beside or instead of the sizes."""

NOT_TRIED: dict[str, str] = {
    "Gemma3nForCausalLM": "vLLM's class on vLLM's own layers differs from transformers as well",
    "LongcatFlashForCausalLM": "vLLM reads num_hidden_layers otherwise than transformers writes it",
    "Zamba2ForCausalLM": "transformers cannot save a tiny one, whose layers share their weights; "
    "it is a hybrid, which are refused",
}
"""Why an architecture cannot be held against transformers as it is generated here."""
