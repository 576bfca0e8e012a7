# SPDX-License-Identifier: Apache-2.0
"""Ops that vLLM calls as ``torch.ops._C.*`` and ``_moe_C.*`` on a device of type ``cuda``.

vLLM's own libraries of those names are CUDA code and are never loaded here. Only what a step needs
is defined; anything else stays undefined, so that it fails by name and not silently.
"""

from __future__ import annotations

import torch
from torch.library import Library

from vllm_kunlun.ops.torch_ops import moe

__all__ = ["define"]

_libraries: list[Library] = []

_CHOICE = (
    "(Tensor! topk_weights, Tensor! topk_ids, Tensor token_expert_indices, Tensor gating_output, "
    "bool renormalize, Tensor? bias=None, {}Tensor? is_padding=None) -> ()"
)
"""The last arguments are 0.33's; earlier releases end with the bias."""
_SCHEMAS = {
    ("_moe_C", "topk_softmax"): _CHOICE.format(""),
    ("_moe_C", "topk_sigmoid"): _CHOICE.format("float routed_scaling_factor=1.0, "),
    ("_C", "apply_repetition_penalties_"): (
        "(Tensor! logits, Tensor prompt_mask, Tensor output_mask, "
        "Tensor repetition_penalties) -> ()"
    ),
    ("_C", "weak_ref_tensor"): "(Tensor input) -> Tensor",
}


def define() -> None:
    """Define the ops that are not there yet. Re-entrant."""
    if _libraries:
        return
    for namespace in ("_C", "_moe_C"):
        _libraries.append(Library(namespace, "FRAGMENT"))
        for (owner, name), schema in _SCHEMAS.items():
            if owner == namespace and not hasattr(getattr(torch.ops, namespace), name):
                _libraries[-1].define(name + schema)
                _libraries[-1].impl(name, globals()[name], "CompositeExplicitAutograd")


def topk_softmax(
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    token_expert_indices: torch.Tensor,
    gating_output: torch.Tensor,
    renormalize: bool,
    bias: torch.Tensor | None = None,
    is_padding: torch.Tensor | None = None,
) -> None:
    """:func:`~vllm_kunlun.ops.torch_ops.moe.top_k`; ``token_expert_indices`` is not read.

    Nor is ``is_padding``: what experts make of a padded row is read by nobody.

    Shapes: gating_output ``[M, E]``, bias ``[E]``, topk_weights float32 and topk_ids int32
    ``[M, k]`` (written).
    """
    moe.top_k(gating_output, topk_weights, topk_ids, renormalize, "softmax", bias)


def topk_sigmoid(
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    token_expert_indices: torch.Tensor,
    gating_output: torch.Tensor,
    renormalize: bool,
    bias: torch.Tensor | None = None,
    routed_scaling_factor: float = 1.0,
    is_padding: torch.Tensor | None = None,
) -> None:
    """:func:`vllm_kunlun.ops.torch_ops.moe.top_k` by sigmoid, weights times the factor.

    Shapes: as :func:`topk_softmax`.
    """
    moe.top_k(gating_output, topk_weights, topk_ids, renormalize, "sigmoid", bias)
    if routed_scaling_factor != 1.0:
        topk_weights.mul_(routed_scaling_factor)


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
    """A tensor on the same memory that does not own it, of the same shape, strides and offset.

    vLLM keeps one of each captured output, so that a graph's pool may use the memory again: it is
    to be read only while something else keeps the memory.

    Shapes: any; the result as ``input``.
    """
    owner = input.untyped_storage()
    memory = torch._C._construct_storage_from_data_pointer(
        owner.data_ptr(), input.device, owner.nbytes()
    )
    return torch.empty(0, dtype=input.dtype, device=input.device).set_(
        memory, input.storage_offset(), input.size(), input.stride()
    )
