# SPDX-License-Identifier: Apache-2.0
"""Sampling: the vendor's functions, arguments as the contract says. They keep the random state."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "top_k_sampling_from_probs",
    "top_k_top_p_sampling_from_probs",
    "top_p_sampling_from_probs",
]


def top_p_sampling_from_probs(
    probs: Tensor, *, top_p: Tensor, deterministic: bool = True
) -> Tensor:
    """Draw among the fewest most probable tokens whose mass reaches ``top_p``.

    Shapes: probs float32 ``[B, V]``; top_p float32 ``[B]``; ids ``[B]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 7.
    """
    return function("kunlun_ops", "top_p_sampling_from_probs")(
        probs, top_p=top_p, deterministic=deterministic
    )  # type: ignore[no-any-return]


def top_k_sampling_from_probs(
    probs: Tensor, *, top_k: Tensor, deterministic: bool = True
) -> Tensor:
    """Draw among the ``top_k`` most probable tokens.

    Shapes: probs float32 ``[B, V]``; top_k int ``[B]``; ids ``[B]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 7.
    """
    return function("kunlun_ops", "top_k_sampling_from_probs")(
        probs, top_k=top_k, deterministic=deterministic
    )  # type: ignore[no-any-return]


def top_k_top_p_sampling_from_probs(
    probs: Tensor, *, top_k: Tensor, top_p: Tensor, deterministic: bool = True
) -> Tensor:
    """Top-k first, then the nucleus of what is left.

    Shapes: probs float32 ``[B, V]``; top_k int32 ``[B]``; top_p float32 ``[B]``; ids ``[B]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 7.
    """
    return function("kunlun_ops", "top_k_top_p_sampling_from_probs")(
        probs, top_k=top_k, top_p=top_p, deterministic=deterministic
    )  # type: ignore[no-any-return]
