# SPDX-License-Identifier: Apache-2.0
"""A configuration of fewer layers: which layers of the model stand for all of them."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["Pattern", "depth_name", "pattern_of", "text_of", "with_layers"]

_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")

_INTERVALS = (
    "decoder_sparse_step",
    "full_attention_interval",
    "moe_layer_freq",
    "interleave_moe_layer_step",
    "no_rope_layer_interval",
    "sliding_window_pattern",
    "attn_layer_period",
    "expert_layer_period",
)
"""Layers whose index has another remainder may be of another kind."""


class Pattern(NamedTuple):
    """``first`` layers of a kind of their own, then ``period`` layers again and again."""

    first: int
    period: int


def text_of(config: dict[str, Any]) -> dict[str, Any]:
    """The part of ``config`` that describes the language model."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def depth_name(config: dict[str, Any]) -> str:
    """The key under which ``config`` says how many layers there are.

    Raises:
        UnsupportedError: under none that is known.
    """
    text = text_of(config)
    found = next((name for name in _DEPTHS if isinstance(text.get(name), int)), None)
    if found is None:
        raise UnsupportedError(
            f"config.json says under none of {', '.join(_DEPTHS)} how many layers the model has: "
            "rehearse it whole, with --shape real --load-format auto."
        )
    return found


def pattern_of(config: dict[str, Any]) -> Pattern:
    """The shortest pattern that the kinds of layers follow and show twice; else all, once."""
    text = text_of(config)
    depth = text[depth_name(config)]
    kinds = [_kind(text, layer, depth) for layer in range(depth)]
    candidates = (
        Pattern(length - period, period)
        for length in range(1, depth)
        for period in range(1, min(length, depth - length) + 1)
    )
    fitting = (
        each
        for each in candidates
        if all(
            kinds[layer] == kinds[layer - each.period]
            for layer in range(each.first + each.period, depth)
        )
    )
    return next(fitting, Pattern(0, depth))


def with_layers(config: dict[str, Any], count: int, more: int = 0) -> dict[str, Any]:
    """``config`` with ``count`` layers: of the first ones as many as fit before one period.

    Then ``more`` layers, all of the pattern. Where layers differ by the remainder of their index,
    they keep it. More layers than the model has go on with its pattern.
    """
    made = copy.deepcopy(config)
    text = text_of(made)
    name = depth_name(made)
    depth = text[name]
    first, period = pattern_of(config)
    kept = first
    if not any(isinstance(text.get(each), int) and text[each] > 1 for each in _INTERVALS):
        kept = max(min(first, count - period), 0)
    chosen = [
        layer if layer < kept else first + (layer - kept) % period for layer in range(count + more)
    ]
    for key in _lists(text, depth):
        text[key] = [text[key][layer] for layer in chosen]
    for key in _dense_firsts(text):
        text[key] = sum(layer < text[key] for layer in chosen)
    if isinstance(text.get("mlp_only_layers"), list):
        dense = set(text["mlp_only_layers"])
        text["mlp_only_layers"] = [place for place, layer in enumerate(chosen) if layer in dense]
    text[name] = count + more
    return made


def _kind(text: dict[str, Any], layer: int, depth: int) -> tuple[object, ...]:
    return (
        *(repr(text[key][layer]) for key in _lists(text, depth)),
        *(layer < text[key] for key in _dense_firsts(text)),
        layer in (text.get("mlp_only_layers") or ()),
        *(layer % text[key] for key in _INTERVALS if isinstance(text.get(key), int) and text[key]),
    )


def _lists(text: dict[str, Any], depth: int) -> list[str]:
    """Keys that hold a value for each layer."""
    return [
        key
        for key, value in text.items()
        if isinstance(value, list) and len(value) == depth and key != "mlp_only_layers"
    ]


def _dense_firsts(text: dict[str, Any]) -> list[str]:
    names = ("first_k_dense_replace", "num_dense_layers")
    return [name for name in names if isinstance(text.get(name), int)]
