# SPDX-License-Identifier: Apache-2.0
"""A configuration made small without leaving the path that the model takes through the code."""

from __future__ import annotations

import copy
from typing import Any

from vllm_kunlun.emulator.rehearsal.measuring.layers import text_of

__all__ = ["small"]

WIDTH = 256
"""Of the residual stream and of a feed-forward layer: two groups of 128 quantised inputs."""
EXPERT_WIDTH = 128
VOCABULARY = 1024
VISION_LAYERS = 4

_WIDTHS = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "intermediate_size_mlp")
_EXPERT_WIDTHS = (
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "shared_intermediate_size",
)
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts")
_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def small(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with narrow layers, few heads, few experts and a small vocabulary.

    What decides the path stays: architectures, kinds of layers, quantisation, rotary embedding, the
    width of a head, heads for each key head, experts for each token, groups of experts, the latent
    rank of keys and values. A model of pictures keeps its vocabulary, which has their tokens.
    """
    made = copy.deepcopy(config)
    text = text_of(made)
    heads = _shrink_heads(text)
    hidden = _shrink_widths(text, heads)
    _shrink_experts(text)
    vision = made.get("vision_config")
    if isinstance(vision, dict):
        _shrink_vision(vision, hidden)
    else:
        _shrink_vocabulary(text)
    return made


def _name(config: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if isinstance(config.get(name), int)), None)


def _shrink_heads(text: dict[str, Any]) -> int:
    """Returns what the heads span together where the residual stream is as wide as that, else 0."""
    heads, key_heads = _name(text, _HEADS), _name(text, _KEY_HEADS)
    hidden = _name(text, _HIDDEN)
    if heads is None or hidden is None:
        return 0
    derived = not isinstance(text.get("head_dim"), int) and "kv_lora_rank" not in text
    width = text[hidden] // text[heads]
    keys = text[key_heads] if key_heads else text[heads]
    ratio = text[heads] // keys
    kept = min(keys, 4 if ratio == 1 else 2)
    if derived and ratio * kept * width > 4 * WIDTH:
        kept = 1
    text[heads] = ratio * kept
    if key_heads:
        text[key_heads] = kept
    if isinstance(text.get("linear_num_key_heads"), int):
        ratio = text["linear_num_value_heads"] // text["linear_num_key_heads"]
        text["linear_num_key_heads"] = min(text["linear_num_key_heads"], 2)
        text["linear_num_value_heads"] = ratio * text["linear_num_key_heads"]
    return text[heads] * width if derived else 0


def _shrink_widths(text: dict[str, Any], heads: int) -> int:
    """Returns the width of the residual stream."""
    for names, width in ((_WIDTHS, WIDTH), (_EXPERT_WIDTHS, EXPERT_WIDTH)):
        for name in names:
            if isinstance(text.get(name), int):
                text[name] = min(text[name], width)
    if isinstance(text.get("q_lora_rank"), int):
        text["q_lora_rank"] = min(text["q_lora_rank"], EXPERT_WIDTH)
    hidden = _name(text, _HIDDEN)
    if hidden is None:
        return 0
    text[hidden] = heads or min(text[hidden], WIDTH)
    return int(text[hidden])


def _shrink_experts(text: dict[str, Any]) -> None:
    experts, chosen = _name(text, _EXPERTS), _name(text, _CHOSEN)
    if experts is None or chosen is None:
        return
    groups = text.get("n_group") or 1
    # Four for each that a token chooses, and in a group at least two, whose scores are added up.
    wanted = max(4 * text[chosen], 2 * groups)
    text[experts] = min(text[experts], -(-wanted // groups) * groups)


def _shrink_vocabulary(text: dict[str, Any]) -> None:
    if not isinstance(text.get("vocab_size"), int) or text["vocab_size"] <= VOCABULARY:
        return
    text["vocab_size"] = VOCABULARY
    for name, token in _TOKENS.items():
        if text.get(name) is not None:
            text[name] = token


def _shrink_vision(vision: dict[str, Any], text_hidden: int) -> None:
    heads = _name(vision, _HEADS)
    hidden = next((name for name in ("embed_dim", "hidden_size") if name in vision), None)
    if heads is None or hidden is None:
        return
    width = vision[hidden] // vision[heads]
    vision[heads] = min(vision[heads], 2)
    # Qwen2-VL's hidden_size is the language model's; the tower is embed_dim wide.
    vision[hidden] = vision[heads] * width
    if hidden == "embed_dim" and "hidden_size" in vision:
        vision["hidden_size"] = text_hidden
    if "out_hidden_size" in vision:
        vision["out_hidden_size"] = text_hidden
    if isinstance(vision.get("intermediate_size"), int):
        vision["intermediate_size"] = min(vision["intermediate_size"], WIDTH)
    for name in ("depth", "num_hidden_layers"):
        if isinstance(vision.get(name), int):
            vision[name] = min(vision[name], VISION_LAYERS)
    if vision.get("fullatt_block_indexes"):
        vision["fullatt_block_indexes"] = [1, VISION_LAYERS - 1]
    if vision.get("deepstack_visual_indexes"):
        vision["deepstack_visual_indexes"] = list(range(len(vision["deepstack_visual_indexes"])))
