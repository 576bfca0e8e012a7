# SPDX-License-Identifier: Apache-2.0
"""The model file: every part of a decoder of transformers, written as vLLM's classes are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from vllm_kunlun.cli.adapt.translate.attention import Attention, attention_of
from vllm_kunlun.cli.adapt.translate.decoder import decoder_of, head_of
from vllm_kunlun.cli.adapt.translate.feed_forward import FeedForward, feed_forward_of
from vllm_kunlun.cli.adapt.translate.layer import layer_of
from vllm_kunlun.cli.adapt.translate.parts import parts_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Translated", "translate"]


@dataclass(frozen=True)
class Translated:
    """A model file.

    Attributes:
        text: the file.
        todo: what it does not do, with the class that does it in transformers.
    """

    text: str
    todo: list[str]


def translate(model: PreTrainedModel) -> Translated:
    """The model file for a model of transformers.

    Args:
        model: with random weights, of any size, on the host: norms and rotations are called.

    Raises:
        UnsupportedError: it is no decoder of equal layers.
    """
    parts = parts_of(model)
    attention, feed_forward = attention_of(parts), feed_forward_of(parts)
    layer, decoder, head = layer_of(parts), decoder_of(parts), head_of(parts)
    _check(attention, feed_forward, parts.config)
    fused = len(attention.projections) == 1
    qkv = attention.projections[0] if fused else "qkv_proj"
    attends = bool(attention.projections and attention.output)
    feeds = bool(feed_forward.up and feed_forward.biases)
    one = feed_forward.gate and feed_forward.gate == feed_forward.up
    gate_up = feed_forward.gate if one else "gate_up_proj" if feed_forward.gate else ""
    packed, stacked = {}, []
    if attends and not fused:
        packed[qkv] = attention.projections
        stacked += _rows(parts.attention, qkv, zip(attention.projections, "qkv", strict=False))
    if feeds and gate_up and not one:
        packed[gate_up] = [feed_forward.gate, feed_forward.up]
        stacked += _rows(
            parts.feed_forward, gate_up, [(feed_forward.gate, 0), (feed_forward.up, 1)]
        )
    conditions = {
        step.condition: "rotates" if step.kind == "rotate" else "normalises"
        for step in attention.steps
        if step.condition
    }
    attention.scale = attention.scale.replace(attention.head_dim, "self.head_dim")
    values = {
        "attends": attends, "feeds": feeds, "parts": parts, "attention": attention,
        "feed_forward": feed_forward, "layer": layer,
        "decoder": decoder, "head": head, "qkv": qkv, "gate_up": gate_up, "packed": packed,
        "stacked": stacked, "source": type(model).__module__,
        "conditions": conditions, "between": _between(attention, conditions),
        "layernorms": ", ".join(sorted({
            norm.layer
            for norm in (*attention.norms.values(), *layer.norms.values(), decoder.norm)
            if norm is not None and norm.layer != "nn.LayerNorm"
        })),
        "linears": ["MergedColumnParallelLinear" if feed_forward.gate else "ColumnParallelLinear",
                    "QKVParallelLinear", "RowParallelLinear"],
        "activations": "GeluAndMul, SiluAndMul" if feed_forward.gate else "get_act_fn",
        "layered": any("layer_idx" in text for text in (
            attention.window, attention.scale, attention.cap,
            attention.rotary.parameters if attention.rotary else "", *conditions)),
        "norm_sizes": _norm_sizes(attention),
        "whole_norms": any(step.kind == "norm" and not step.heads for step in attention.steps),
        "layer_numbered": any("layer_idx" in text for text in layer.made.values()),
    }  # fmt: skip
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    source = resources.files(__package__).joinpath("model.py.j2").read_text(encoding="utf-8")
    text = environment.from_string(source).render(**values, math=False)
    if "math." in text:
        text = environment.from_string(source).render(**values, math=True)
    todo = [
        f"{part.name}: {each}"
        for part in (attention, feed_forward, layer, decoder, head)
        for each in part.todo
    ]
    return Translated(re.sub(r"\n{4,}", "\n\n\n", text), todo)


def _between(attention: Attention, conditions: dict[str, str]) -> list[str]:
    """What is done to ``q`` and ``k`` before the attention."""
    lines: list[str] = []
    for step in attention.steps:
        done = ["q, k = self.rotary_emb(positions, q, k)"]
        if step.kind == "norm" and not step.heads:
            done = [
                f"{each} = self._over_all_heads(self.{name}, {each}, {copies})"
                for each, name, copies in zip(
                    "qk", step.module.split(), ("1", "self.kv_copies"), strict=True
                )
            ]
        elif step.kind == "norm":
            done = [
                f"{each} = self.{name}({each}.unflatten(-1, (-1, self.head_dim))).flatten(-2)"
                for each, name in zip("qk", step.module.split(), strict=True)
            ]
        if step.condition:
            done = [f"if self.{conditions[step.condition]}:", *(f"    {line}" for line in done)]
        lines += done
    return lines


def _norm_sizes(attention: Attention) -> dict[str, str]:
    """Name of a norm on queries or keys -> how many values it normalises."""
    return {
        name: "self.head_dim" if step.heads else f"{heads} * self.head_dim"
        for step in attention.steps
        if step.kind == "norm"
        for name, heads in zip(step.module.split(), ("heads", "kv_heads"), strict=True)
    }


def _rows(owner: str, whole: str, pairs) -> list[str]:  # type: ignore[no-untyped-def]
    """Rows (stacked, stored, which) with the owner's name, so that no other module is meant."""
    return [
        f'(".{owner}.{whole}.", ".{owner}.{part}.", {json.dumps(shard)})' for part, shard in pairs
    ]


def _check(attention: Attention, feed_forward: FeedForward, config: object) -> None:
    """Note what vLLM's layers cannot be asked for."""
    if feed_forward.gate:
        name = _name(feed_forward.activation, config)
        if name not in ("silu", "gelu", "gelu_pytorch_tanh"):
            feed_forward.todo.append(f"vLLM has no gate with the activation {name}")


def _name(expression: str, config: object) -> object:
    """The value of ``config.name`` or of a constant."""
    match = re.fullmatch(r"config\.(\w+)", expression)
    return getattr(config, match.group(1), None) if match else expression.strip("'\"")
