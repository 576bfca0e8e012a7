# SPDX-License-Identifier: Apache-2.0
"""Ops that vLLM calls as ``torch.ops._C.*`` on a device of type ``cuda``, in plain torch.

vLLM's own library of that name is CUDA code and is never loaded here. Only what the dense models'
step needs is defined; anything else stays undefined, so that it fails by name and not silently.
"""

from __future__ import annotations

import torch
from torch.library import Library

__all__ = ["define"]

_library: Library | None = None

_SCHEMAS = {
    "apply_repetition_penalties_": (
        "(Tensor! logits, Tensor prompt_mask, Tensor output_mask, "
        "Tensor repetition_penalties) -> ()"
    ),
    "weak_ref_tensor": "(Tensor input) -> Tensor",
}


def define() -> None:
    """Define the ops that are not there yet. Re-entrant."""
    global _library
    if _library is not None:
        return
    _library = Library("_C", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops._C, name):
            _library.define(name + schema)
            _library.impl(name, globals()[name], "CompositeExplicitAutograd")


def apply_repetition_penalties_(
    logits: torch.Tensor,
    prompt_mask: torch.Tensor,
    output_mask: torch.Tensor,
    repetition_penalties: torch.Tensor,
) -> None:
    """In place: a token seen before has its logit divided (if positive) or multiplied by ``r``.

    Shapes: logits and masks ``[B, V]``, penalties ``[B]``.
    Source: CTRL, arXiv:1909.05858, section 4.1, with the sign rule that vLLM applies.
    """
    penalty = torch.where(
        prompt_mask | output_mask, repetition_penalties.unsqueeze(1).to(logits.dtype), 1.0
    )
    logits.copy_(torch.where(logits > 0, logits / penalty, logits * penalty))


def weak_ref_tensor(input: torch.Tensor) -> torch.Tensor:
    """A second handle on the same memory.

    vLLM asks for one that does not own it, to let a graph's pool reuse the memory. Plain torch has
    none, so this one owns it: the pool stays larger, the values are the same.
    """
    return input.detach()
