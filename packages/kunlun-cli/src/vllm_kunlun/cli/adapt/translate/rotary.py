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
    sources = [_sources(maker) for maker in parts.rotary]
    if not sources or not all(sources):
        raise UntranslatedError("rotary angles that are not made of inv_freq")
    angles = [each for source in sources for each in source]
    attention = parts.layer.get_submodule(parts.attention)
    parameters = _OF_CONFIG
    if angles[0].kind or not _all_alike(angles):
        parameters = _by_layer(parts, angles)
    size = 2 * angles[0].inv_freq.numel()
    apply = getattr(sys.modules[type(attention).__module__], function)
    generator = torch.Generator().manual_seed(0)
    heads = torch.randn(1, 2, 5, size, generator=generator)
    came = apply(heads, heads, *angles[0].cos_sin(heads, 5))[0]
    angle = torch.outer(torch.arange(5.0), angles[0].inv_freq.float())
    c, s = angle.cos() * angles[0].scaling, angle.sin() * angles[0].scaling
    x, y = heads[..., : size // 2], heads[..., size // 2 :]
    if torch.allclose(came, torch.cat((x * c - y * s, y * c + x * s), -1), atol=1e-5):
        return Rotary(True, size, parameters)
    x, y = heads[..., 0::2], heads[..., 1::2]
    if torch.allclose(came, torch.stack((x * c - y * s, y * c + x * s), -1).flatten(-2), atol=1e-5):
        return Rotary(False, size, parameters)
    raise UntranslatedError(f"{function} rotates neither halves nor neighbours")


@dataclass(frozen=True)
class _Angles:
    """Angles that a module makes: its only ones, or those of a kind of layer."""

    maker: Any
    kind: str = ""

    @property
    def inv_freq(self) -> torch.Tensor:
        found: torch.Tensor = self._own("inv_freq")
        return found

    @property
    def scaling(self) -> float:
        return float(self._own("attention_scaling", 1.0))

    def cos_sin(self, like: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the positions 0 to count - 1, of ``like``'s dtype."""
        kind = {"layer_type": self.kind} if self.kind else {}
        cos, sin = self.maker(like, torch.arange(count).unsqueeze(0), **kind)
        return cos, sin

    @property
    def cosines(self) -> torch.Tensor:
        return self.cos_sin(torch.zeros(1), _POSITIONS)[0]

    def made_of(self, config: Any) -> _Angles:
        """The same of a module that is made anew."""
        return _Angles(type(self.maker)(config=config), self.kind)

    def _own(self, name: str, *default: Any) -> Any:
        return getattr(self.maker, f"{self.kind}_{name}" if self.kind else name, *default)


def _sources(maker: Any) -> list[_Angles]:
    """What ``maker`` gives: since transformers 5 one module makes the angles of each kind."""
    if hasattr(maker, "inv_freq"):
        return [_Angles(maker)]
    kinds = getattr(maker, "layer_types", ())
    return [_Angles(maker, kind) for kind in kinds if hasattr(maker, f"{kind}_inv_freq")]


def _all_alike(angles: list[_Angles]) -> bool:
    return len({(tuple(each.inv_freq.tolist()), each.scaling) for each in angles}) == 1


def _by_layer(parts: Parts, angles: list[_Angles]) -> str:
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
        made = [
            each for each in angles
            if each.kind in ("", kind) and torch.equal(each.cosines, cos)
        ]  # fmt: skip
        found.setdefault(kind, set()).add(_parameters(made[0], parts) if made else "")
    if any(len(each) != 1 or "" in each for each in found.values()):
        raise UntranslatedError("angles that differ among layers of one kind")
    rows = ", ".join(f'"{kind}": {next(iter(each))}' for kind, each in found.items())
    return f"{{{rows}}}[config.layer_types[layer_idx]]"


def _parameters(angles: _Angles, parts: Parts) -> str:
    """An expression for the parameters of these angles.

    Those of the configuration, if a module made of that has the same; else angle i of n is
    theta^(-i/n), with a theta that the configuration names.
    """
    if torch.equal(angles.made_of(parts.config).cosines, angles.cosines):
        return f'{_OF_CONFIG}["{angles.kind}"]' if angles.kind else _OF_CONFIG
    count = angles.inv_freq.numel()
    for name, value in parts.config.to_dict().items():
        if not (isinstance(value, int | float) and ("rope" in name or "theta" in name)):
            continue
        plain = float(value) ** (-torch.arange(count) / count)
        if angles.scaling == 1 and torch.allclose(plain, angles.inv_freq, rtol=1e-5):
            theta = f'{_OF_CONFIG}["rope_theta"]' if name == "rope_theta" else f"config.{name}"
            return f'{{"rope_type": "default", "rope_theta": {theta}}}'
    raise UntranslatedError("rotary angles that are of no base in the configuration")
