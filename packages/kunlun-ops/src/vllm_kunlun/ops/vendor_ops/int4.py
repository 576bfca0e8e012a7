# SPDX-License-Identifier: Apache-2.0
"""int4 weights: the vendor's functions, arguments passed as the contract says.

``scale`` is a true scale. All raise VendorContractError (emulator) for an argument that the card
would misread. Source: contract section 6.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = ["awq_dequantize", "awq_gemm", "gptq_gemm"]


def awq_dequantize(
    *, qweight: Tensor, scales: Tensor, zeros: Tensor, weight: Tensor, group_m: int, align_type: int
) -> None:
    """``weight = (q - z) s``, float16 ``[K, N]``, from words of 8 nibbles.

    Shapes: qweight int32 ``[K, N / 8]``, scales float16 ``[K / g, N]``, zeros int32
    ``[K / g, N / 8]``. align_type 0: columns 1 0 3 2 5 4 7 6 in a word; 1: byte ``t`` of 32 holds
    columns ``32 + t`` (low) and ``t`` (high) of 64.
    """
    function("kunlun_ops", "awq_dequantize")(
        qweight=qweight,
        scales=scales,
        zeros=zeros,
        weight=weight,
        group_m=group_m,
        quant_type=0,
        align_type=align_type,
    )


def awq_gemm(
    *,
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    zeros: Tensor,
    out: Tensor,
    align_type: int,
    group_size: int,
) -> None:
    """``out = x W``, float16, with the weight of :func:`awq_dequantize`."""
    function("kunlun_ops", "awq_gemm")(
        x=x, w=w, scale=scale, zeros=zeros, out=out, align_type=align_type, group_size=group_size
    )


def gptq_gemm(
    x: Tensor, qweight: Tensor, qzeros: Tensor, scales: Tensor, g_idx: Tensor, bits: int
) -> Tensor:
    """``x (q - (z + 1)) s``, ``[M, N]``, from weights packed along the input.

    Shapes: qweight int32 ``[K bits / 32, N]``, qzeros int32 ``[K / g, N bits / 32]`` (4 bits: fast
    layout), scales ``[K / g, N]``, g_idx int32 ``[K]`` or empty.
    """
    return function("xspeedgate_ops", "gptq_gemm")(x, qweight, qzeros, scales, g_idx, True, bits)
