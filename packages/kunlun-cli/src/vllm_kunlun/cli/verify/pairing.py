# SPDX-License-Identifier: Apache-2.0
"""Which modules of vLLM's model do what which modules of transformers' model do.

By name, through the class's own ``hf_to_vllm_mapper`` and ``packed_modules_mapping``; what that
leaves open, by the tensors of the checkpoint that fill a module's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Pairs", "pair", "parent", "unpaired"]

Pairs = dict[str, tuple[str, ...]]
"""Module of vLLM's -> those of transformers', several where vLLM joins them in one."""


def pair(
    ours: nn.Module, theirs: nn.Module, written: Mapping[str, Sequence[str]] | None = None
) -> Pairs:
    """The pairs of two models.

    Args:
        ours: vLLM's.
        theirs: transformers'.
        written: parameter of ``ours`` -> tensors of the checkpoint that fill it, in order.
    """
    ours_by_name, theirs_by_name = dict(ours.named_modules()), dict(theirs.named_modules())
    rename = _renaming(ours)
    pairs: Pairs = {}
    for name in theirs_by_name:
        renamed = rename(name)
        # Without weights a name says little: an `act_fn` here multiplies, and there does not.
        if name and renamed in ours_by_name and _has_weights(ours_by_name[renamed]):
            pairs[renamed] = (name,)
    for packed, parts in getattr(ours, "packed_modules_mapping", {}).items():
        for above in theirs_by_name:
            names = tuple(_join(above, part) for part in parts)
            renamed = rename(_join(above, packed))
            if renamed in ours_by_name and all(name in theirs_by_name for name in names):
                pairs[renamed] = names
    for parameter, tensors in (written or {}).items():
        name = parent(parameter)
        filled = tuple(dict.fromkeys(parent(each) for each in tensors))
        if name not in pairs and filled and all(each in theirs_by_name for each in filled):
            pairs[name] = filled
    for name, others in list(pairs.items()):
        _pair_above(name, others[0], pairs)
    for name, module in ours_by_name.items():
        if hasattr(module, "w2_weight") and parent(name) in pairs:
            # The experts of a layer are one module here, and many under one container there.
            pairs[name] = pairs[parent(name)]
    return pairs


def unpaired(ours: nn.Module, pairs: Pairs) -> list[str]:
    """Modules of ``ours`` with weights of their own that have no pair."""
    return [
        name
        for name, module in ours.named_modules()
        if name not in pairs and any(p.numel() > 1 for p in module.parameters(recurse=False))
    ]


def parent(name: str) -> str:
    """The module that holds the module or parameter ``name``."""
    return name.rpartition(".")[0]


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _pair_above(name: str, other: str, pairs: Pairs) -> None:
    while name and other:
        name, other = parent(name), parent(other)
        if name and other:
            pairs.setdefault(name, (other,))


def _renaming(ours: nn.Module) -> Any:
    mapper = getattr(ours, "hf_to_vllm_mapper", None)

    def rename(name: str) -> str:
        if mapper is None:
            return name
        # Its rules are for tensors, so the name of one is given.
        found = mapper.apply_list([f"{name}.weight"])
        return parent(found[0]) if found else name

    return rename


def _join(above: str, name: str) -> str:
    return f"{above}.{name}" if above else name
