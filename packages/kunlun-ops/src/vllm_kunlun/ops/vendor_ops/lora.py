# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters: the vendor's functions, arguments passed as the contract says.

``A`` is ``lora_a`` ``[adapters, rank, in]``, ``B`` is ``lora_b`` ``[adapters, out, rank]``; tokens
are ``[T, in]``, all of one dtype. A token belongs to an adapter by its segment (``seq_len`` and
``lora_indices`` int32, one for each segment) or by ``token_lora_indices`` (int64 ``[T]``); -1 is
none, and its row of ``output`` stays as it is. All raise VendorContractError (emulator) for an
argument that the card would misread. Source: contract section 9.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "bgmv_expand_cluster",
    "bgmv_shrink_cluster",
    "sgmv_expand_cluster",
    "sgmv_expand_sdnn",
    "sgmv_shrink_cluster",
    "sgmv_shrink_sdnn",
]


def sgmv_shrink_sdnn(
    inputs: Tensor,
    lora_a: Tensor,
    seq_len: Tensor,
    lora_indices: Tensor,
    output: Tensor,
    scaling: float,
) -> None:
    """``output[t] += scaling A inputs[t]``; output is ``[T, rank]`` of zeros."""
    function("xspeedgate_ops", "sgmv_shrink_sdnn")(
        inputs, lora_a, seq_len, lora_indices, output, scaling
    )


def sgmv_shrink_cluster(
    inputs: Tensor,
    lora_a: Tensor,
    seq_len: Tensor,
    lora_indices: Tensor,
    output: Tensor,
    scaling: float,
) -> None:
    """As :func:`sgmv_shrink_sdnn`, for few tokens."""
    function("xspeedgate_ops", "sgmv_shrink_cluster")(
        inputs, lora_a, seq_len, lora_indices, output, scaling
    )


def sgmv_expand_sdnn(
    inputs: Tensor,
    lora_b: Tensor,
    seq_len: Tensor,
    lora_indices: Tensor,
    output: Tensor,
    slice_offset: int,
) -> None:
    """``output[t, slice_offset:slice_offset + out] += B inputs[t]``; inputs is ``[T, rank]``."""
    function("xspeedgate_ops", "sgmv_expand_sdnn")(
        inputs, lora_b, seq_len, lora_indices, output, slice_offset
    )


def sgmv_expand_cluster(
    inputs: Tensor,
    lora_b: Tensor,
    seq_len: Tensor,
    lora_indices: Tensor,
    output: Tensor,
    slice_offset: int,
) -> None:
    """As :func:`sgmv_expand_sdnn`, for few tokens."""
    function("xspeedgate_ops", "sgmv_expand_cluster")(
        inputs, lora_b, seq_len, lora_indices, output, slice_offset
    )


def bgmv_shrink_cluster(
    inputs: Tensor, lora_a: Tensor, token_lora_indices: Tensor, output: Tensor, scaling: float
) -> None:
    """``output[t] += scaling A inputs[t]``; output is ``[T, rank]`` of zeros."""
    function("xspeedgate_ops", "bgmv_shrink_cluster")(
        inputs, lora_a, token_lora_indices, output, scaling
    )


def bgmv_expand_cluster(
    inputs: Tensor, lora_b: Tensor, token_lora_indices: Tensor, output: Tensor, slice_offset: int
) -> None:
    """``output[t, slice_offset:slice_offset + out] += B inputs[t]``; inputs is ``[T, rank]``."""
    function("xspeedgate_ops", "bgmv_expand_cluster")(
        inputs, lora_b, token_lora_indices, output, slice_offset
    )
