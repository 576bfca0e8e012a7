# SPDX-License-Identifier: Apache-2.0
"""A configuration with every size made small, in the proportions that it has."""

from __future__ import annotations

from typing import Any

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["built", "shrunk"]

_SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Wide enough for attention to look at something: with 0.02 a random model ignores its context.
    "initializer_range": 0.15,
    "init_std": 0.15,
    # width
    "hidden_size": 128,
    "n_embd": 128,
    "d_model": 128,
    "intermediate_size": 160,
    "ffn_hidden_size": 160,
    "ffn_dim": 160,
    "n_inner": 160,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 48,
    "shared_intermediate_size": 48,
    # heads
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "head_dim": 32,
    "rotary_dim": 16,
    "query_pre_attn_scalar": 32,
    # lengths
    "max_position_embeddings": 256,
    "n_positions": 256,
    "sliding_window": 13,
    # experts
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "moe_num_experts": 8,
    "n_group": 1,
    "topk_group": 1,
    # latent attention
    "kv_lora_rank": 48,
    "q_lora_rank": 56,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
}
_FEW = {"num_experts_per_tok": 2, "moe_topk": 2, "moe_k": 2}
"""At most this many."""
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def shrunk(config: Any) -> Any:
    """A copy of a configuration of transformers whose model has some thousand parameters.

    An attribute that is None, or not there, stays so. Heads for keys and values keep whether they
    are one, all or some; layers are the first ones, as many as show every type of layer.
    """
    told = config.to_dict()
    names = {*told, *type(config).attribute_map}
    values: dict[str, Any] = {
        name: value
        for name, value in _SIZES.items()
        if name in names and (getattr(config, name, None) is not None or name.endswith("_id"))
    }
    values |= {
        name: min(most, getattr(config, name))
        for name, most in _FEW.items()
        if isinstance(getattr(config, name, None), int)
    }
    for name in ("num_key_value_heads", "num_kv_heads"):
        now, heads = getattr(config, name, None), getattr(config, "num_attention_heads", 0)
        if isinstance(now, int):
            values[name] = 4 if now == heads else 1 if now == 1 else 2
    for name in _DEPTHS:
        if name in names:
            full = getattr(config, name)
            depth = min(_depth(told), full)
            values[name] = depth
            for other, each in told.items():
                # One entry a layer.
                if isinstance(each, list) and len(each) == full:
                    values[other] = each[:depth]
    dtype = {"dtype": "float32"}
    return type(config)(**{**told, **values, **dtype})


def _depth(told: dict[str, Any]) -> int:
    """Layers that show every type, three at least where there are so many."""
    kinds = told.get("layer_types") or []
    return max([3, *(kinds.index(kind) + 1 for kind in set(kinds))])


def built(told: dict[str, Any]) -> Any:
    """A model of transformers with random weights, of a configuration as it is in JSON.

    Raises:
        UnsupportedError: its class cannot be made so small.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**told)
    try:
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"transformers cannot build a tiny {told['architectures'][0]} "
            f"({type(error).__name__}: {error}): name the config.json of a published checkpoint."
        ) from error
