# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints, one per architecture, with odd head counts and GQA ratios."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

VOCABULARY = 320

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "max_position_embeddings": 512,
    # Wide enough for attention to look at something: with 0.02 a random model ignores its context.
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

CONFIGURATIONS: dict[str, transformers.PretrainedConfig] = {
    "qwen2": transformers.Qwen2Config(
        **{**_COMMON, "hidden_size": 192}, num_attention_heads=6, num_key_value_heads=2
    ),
    "qwen2-tied": transformers.Qwen2Config(
        **_COMMON, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True
    ),
    "qwen3": transformers.Qwen3Config(
        **_COMMON, num_attention_heads=5, num_key_value_heads=1, head_dim=32
    ),
    "llama": transformers.LlamaConfig(
        **_COMMON,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "mistral-window": transformers.MistralConfig(
        **_COMMON, num_attention_heads=6, num_key_value_heads=3, head_dim=32, sliding_window=13
    ),
    "gemma2": transformers.Gemma2Config(
        **_COMMON,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=32,
        sliding_window=11,
        query_pre_attn_scalar=32,
        hidden_act="gelu_pytorch_tanh",  # vLLM reads the name that real checkpoints carry
        attn_logit_softcapping=5.0,
        final_logit_softcapping=8.0,
    ),
    "gemma3": transformers.Gemma3TextConfig(
        **{**_COMMON, "num_hidden_layers": 7},
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        sliding_window=9,
        query_pre_attn_scalar=32,
    ),
    "phi3": transformers.Phi3Config(**_COMMON, num_attention_heads=3, num_key_value_heads=3),
    "seed-oss": transformers.SeedOssConfig(
        **_COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=32
    ),
    "olmo2": transformers.Olmo2Config(**_COMMON, num_attention_heads=3, num_key_value_heads=1),
    "glm4": transformers.Glm4Config(
        **_COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=32
    ),
    "granite": transformers.GraniteConfig(
        **_COMMON, num_attention_heads=3, num_key_value_heads=3, attention_multiplier=0.2
    ),
    # Alibi: its decode runs through the prefill function's cache mode.
    "bloom": transformers.BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        n_layer=3,
        n_head=3,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
}

_EXPERTS = {**_COMMON, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}

MOE_CONFIGURATIONS: dict[str, transformers.PretrainedConfig] = {
    "qwen3-moe": transformers.Qwen3MoeConfig(
        **_EXPERTS,
        moe_intermediate_size=40,
        num_experts=128,
        num_experts_per_tok=8,
        norm_topk_prob=True,
        mlp_only_layers=[0],
    ),
    "qwen2-moe": transformers.Qwen2MoeConfig(  # weights as they are, shared experts with a gate
        **{**_COMMON, "hidden_size": 128},
        num_attention_heads=4,
        num_key_value_heads=2,
        moe_intermediate_size=40,
        shared_expert_intermediate_size=64,
        num_experts=12,
        num_experts_per_tok=3,
        norm_topk_prob=False,
    ),
    "mixtral": transformers.MixtralConfig(
        **_EXPERTS, num_local_experts=5, num_experts_per_tok=2, sliding_window=None
    ),
    "glm4-moe": transformers.Glm4MoeConfig(
        **_EXPERTS,
        moe_intermediate_size=40,
        n_routed_experts=16,
        num_experts_per_tok=4,
        n_shared_experts=1,
        n_group=4,
        topk_group=2,
        routed_scaling_factor=1.7,
        first_k_dense_replace=1,
        norm_topk_prob=True,
        use_qk_norm=True,
    ),
    "gpt-oss": transformers.GptOssConfig(
        **{**_EXPERTS, "num_hidden_layers": 4},
        num_local_experts=6,
        num_experts_per_tok=2,
        sliding_window=11,
    ),
}

LATENT = {
    **_COMMON,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 48,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "moe_intermediate_size": 40,
    "n_shared_experts": 2,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.7,
}
_YARN = {
    "rope_type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
}
_SIGMOID = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True}

MLA_CONFIGURATIONS: dict[str, transformers.PretrainedConfig] = {
    # mscale_all_dim is 0 because HF's V2, unlike its V3, leaves it out of the softmax scale.
    "deepseek-v2": transformers.DeepseekV2Config(
        **LATENT,
        q_lora_rank=56,
        rope_scaling={**_YARN, "mscale_all_dim": 0.0},
        topk_method="group_limited_greedy",
        n_group=4,
        topk_group=2,
    ),
    "deepseek-v2-lite": transformers.DeepseekV2Config(
        **LATENT, q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1
    ),
    "deepseek-v3": transformers.DeepseekV3Config(  # heads as wide as the real model's
        **{
            **LATENT,
            "num_hidden_layers": 2,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
        },
        **_SIGMOID,
        q_lora_rank=56,
        rope_scaling={**_YARN, "mscale_all_dim": 1.0},
        n_group=4,
        topk_group=2,
    ),
    "deepseek-v3-plain": transformers.DeepseekV3Config(  # values as wide as keys
        **{**LATENT, "v_head_dim": 40}, **_SIGMOID, q_lora_rank=None, n_group=1, topk_group=1
    ),
}

EVEN_CONFIGURATIONS: dict[str, transformers.PretrainedConfig] = {
    # Heads for two ranks, and adapters on embedding and output projection.
    "llama-even": transformers.LlamaConfig(
        **_COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=32
    ),
    # Every matrix divides into groups of 16 inputs on each of two ranks.
    "qwen3-moe-even": transformers.Qwen3MoeConfig(
        **_EXPERTS,
        moe_intermediate_size=64,
        num_experts=16,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        mlp_only_layers=[0],
    ),
    "deepseek-v3-even": transformers.DeepseekV3Config(
        **{**LATENT, "moe_intermediate_size": 64},
        **_SIGMOID,
        q_lora_rank=None,
        n_group=4,
        topk_group=2,
    ),
}

_LINEAR = {
    **_EXPERTS,
    "num_hidden_layers": 5,
    "layer_types": ["linear_attention", "full_attention", *["linear_attention"] * 3],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "moe_intermediate_size": 40,
    "shared_expert_intermediate_size": 64,
    "num_experts": 12,
    "num_experts_per_tok": 3,
    "partial_rotary_factor": 0.5,
}

HYBRID_CONFIGURATIONS: dict[str, transformers.PretrainedConfig] = {
    "qwen3-next": transformers.Qwen3NextConfig(**_LINEAR),
    # States so large that a block of attention is several of its pages; a key head for each value.
    "qwen3-next-long-blocks": transformers.Qwen3NextConfig(
        **{
            **_LINEAR,
            "num_hidden_layers": 3,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_conv_kernel_dim": 2,
            "linear_key_head_dim": 64,
            "linear_value_head_dim": 64,
            "linear_num_key_heads": 8,
            "linear_num_value_heads": 8,
            "mlp_only_layers": [1],
            # All of them, so that half precision cannot choose another one at a near tie.
            "num_experts": 3,
        }
    ),
}

SPARSE_CONFIGURATIONS: dict[str, transformers.PretrainedConfig] = {
    # The part of DeepSeek-V3.2 that is DeepSeek-V3.
    "deepseek-v3-sparse": transformers.DeepseekV3Config(
        **LATENT,
        **_SIGMOID,
        q_lora_rank=56,
        rope_scaling={**_YARN, "mscale_all_dim": 1.0},
        n_group=4,
        topk_group=2,
    ),
}

DRAFTING_CONFIGURATIONS: dict[str, transformers.PretrainedConfig] = {
    # The first layer is one of experts, as a multi-token-prediction layer has to be.
    "deepseek-v3-mixtures": transformers.DeepseekV3Config(
        **{**LATENT, "first_k_dense_replace": 0},
        **_SIGMOID,
        q_lora_rank=56,
        n_group=4,
        topk_group=2,
    ),
}

_ALL = {**CONFIGURATIONS, **MOE_CONFIGURATIONS, **MLA_CONFIGURATIONS, **SPARSE_CONFIGURATIONS,
        **EVEN_CONFIGURATIONS, **HYBRID_CONFIGURATIONS, **DRAFTING_CONFIGURATIONS}  # fmt: skip


def resized(name: str, **sizes: object) -> transformers.PretrainedConfig:
    """The configuration ``name`` with other sizes."""
    return type(_ALL[name])(**{**_ALL[name].to_dict(), **sizes})


def write(name: str, folder: Path, dtype: torch.dtype = torch.float32, seed: int = 0) -> Path:
    """Save a random checkpoint of one of the configurations in ``dtype``; return its folder."""
    return write_configuration(_ALL[name], folder, dtype, seed)


def write_configuration(
    configuration: transformers.PretrainedConfig,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Path:
    """As :func:`write`, of a configuration of the caller's."""
    # Whether it is made now or was made before changes nothing of what a test draws afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(configuration)
        for key, buffer in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                torch.nn.init.normal_(buffer, std=0.2)
        for key, parameter in model.named_parameters():
            # Norm weights start as constants: give them values that a mistake would show.
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, mean=parameter.data.mean().item(), std=0.1)
            assert torch.isfinite(parameter).all(), key
    model.to(dtype).save_pretrained(folder)
    return folder
