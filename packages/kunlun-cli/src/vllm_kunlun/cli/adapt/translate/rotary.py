# SPDX-License-Identifier: Apache-2.0
"""How a model of transformers rotates queries and keys: which pairs, how much, by which angles."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vllm_kunlun.cli.adapt.translate.reading import UntranslatedError

if TYPE_CHECKING:
    from torch import nn

    from vllm_kunlun.cli.adapt.translate.parts import Parts

__all__ = ["Rotary", "rotary_of"]


_OF_CONFIG = "config.rope_parameters"
_POSITIONS = 64
"""That angles are compared at."""


@dataclass(frozen=True)
class Rotary:
    """Attributes:
    neox: halves of a head are rotated against each other; otherwise neighbours.
    size: how many values of a head are rotated.
    parameters: expression of ``config`` and ``layer_idx``, for vLLM's ``rope_parameters``.
    """

    neox: bool
    size: int
    parameters: str = _OF_CONFIG


@torch.no_grad()  # type: ignore[untyped-decorator]
def rotary_of(parts: Parts, function: str) -> Rotary:
    """The rotation that ``function`` of the attention's file applies, by the angles of each layer.

    Rotated by angle a, the pair (x, y) is (x cos a - y sin a, y cos a + x sin a); pairs are
    (i, i + n/2) of n values in NeoX's style, (2i, 2i + 1) in the other.

    Raises:
        UntranslatedError: angles differ by something else than the kind of layer, or it is
            another formula.
    """
    makers: list[Any] = parts.rotary
    if not makers or not all(hasattr(each, "inv_freq") for each in makers):
        raise UntranslatedError("rotary angles that are not made of inv_freq")
    maker = makers[0]
    attention = parts.layer.get_submodule(parts.attention)
    parameters = _OF_CONFIG
    if len({tuple(each.inv_freq.tolist()) for each in makers}) != 1:
        parameters = _by_layer(parts)
    size = 2 * maker.inv_freq.numel()
    apply = getattr(sys.modules[type(attention).__module__], function)
    generator = torch.Generator().manual_seed(0)
    heads = torch.randn(1, 2, 5, size, generator=generator)
    cos, sin = maker(heads, torch.arange(5).unsqueeze(0))
    came = apply(heads, heads, cos, sin)[0]
    angles = torch.outer(torch.arange(5.0), maker.inv_freq.float())
    scale = float(getattr(maker, "attention_scaling", 1.0))
    c, s = angles.cos() * scale, angles.sin() * scale
    x, y = heads[..., : size // 2], heads[..., size // 2 :]
    if torch.allclose(came, torch.cat((x * c - y * s, y * c + x * s), -1), atol=1e-5):
        return Rotary(True, size, parameters)
    x, y = heads[..., 0::2], heads[..., 1::2]
    if torch.allclose(came, torch.stack((x * c - y * s, y * c + x * s), -1).flatten(-2), atol=1e-5):
        return Rotary(False, size, parameters)
    raise UntranslatedError(f"{function} rotates neither halves nor neighbours")


def _by_layer(parts: Parts) -> str:
    """Kind of layer -> parameters, as an expression: each layer is seen to be given its angles."""
    kinds = getattr(parts.config, "layer_types", None) or []
    given: list[Any] = []

    def note(_module: nn.Module, _arguments: Any, named: dict[str, Any]) -> None:
        given.append(named.get("position_embeddings"))

    layers: Any = parts.decoder.get_submodule(parts.layers)
    handles = [
        each.get_submodule(parts.attention).register_forward_pre_hook(note, with_kwargs=True)
        for each in layers
    ]
    parts.model(torch.zeros(1, _POSITIONS, dtype=torch.long), use_cache=False)
    for handle in handles:
        handle.remove()
    found: dict[str, set[str]] = {}
    if len(given) != len(kinds) or None in given:
        raise UntranslatedError("angles that differ by layer, and no layer_types to tell which")
    for kind, (cos, _) in zip(kinds, given, strict=True):
        makers = [each for each in parts.rotary if torch.equal(_cosines(each), cos)]
        found.setdefault(kind, set()).add(_parameters(makers[0], parts) if makers else "")
    if any(len(each) != 1 or "" in each for each in found.values()):
        raise UntranslatedError("angles that differ among layers of one kind")
    rows = ", ".join(f'"{kind}": {next(iter(each))}' for kind, each in found.items())
    return f"{{{rows}}}[config.layer_types[layer_idx]]"


def _cosines(maker: Any) -> torch.Tensor:
    cos: torch.Tensor = maker(torch.zeros(1), torch.arange(_POSITIONS).unsqueeze(0))[0]
    return cos


def _parameters(maker: Any, parts: Parts) -> str:
    """An expression for the parameters of one module's angles.

    Those of the configuration, if a module made of that has the same; else angle i of n is
    theta^(-i/n), with a theta that the configuration names.
    """
    if torch.equal(_cosines(type(maker)(config=parts.config)), _cosines(maker)):
        return _OF_CONFIG
    count = maker.inv_freq.numel()
    for name, value in parts.config.to_dict().items():
        if not (isinstance(value, int | float) and ("rope" in name or "theta" in name)):
            continue
        plain = float(value) ** (-torch.arange(count) / count)
        if maker.attention_scaling == 1 and torch.allclose(plain, maker.inv_freq, rtol=1e-5):
            theta = f'{_OF_CONFIG}["rope_theta"]' if name == "rope_theta" else f"config.{name}"
            return f'{{"rope_type": "default", "rope_theta": {theta}}}'
    raise UntranslatedError("rotary angles that are of no base in the configuration")
