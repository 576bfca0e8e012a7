# SPDX-License-Identifier: Apache-2.0
"""Weights of 4 and 8 bits: unpacking the card's layouts, and products with what comes out.

A word is an int32; nibble ``i`` is its bits ``4 i`` to ``4 i + 3``.
"""

from __future__ import annotations

from typing import Any

import torch

from vllm_kunlun.emulator.checks import FLOATS, check_shape, check_tensor, require
from vllm_kunlun.emulator.kernels import int4 as kernels
from vllm_kunlun.ops.contract.limits import FAST_LAYOUT_COLUMNS

__all__ = ["awq_dequantize", "awq_gemm", "gptq_gemm"]

_INT32 = (torch.int32,)
_FLOAT16 = (torch.float16,)

_NORMAL_COLUMNS = (1, 0, 3, 2, 5, 4, 7, 6)
"""align_type 0: nibble ``i`` of a word holds this one of its 8 columns."""


def awq_dequantize(
    *,
    qweight: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    weight: torch.Tensor,
    group_m: int,
    quant_type: int = 0,
    align_type: int,
) -> None:
    """``weight[k, n] = (q[k, n] - z[k // g, n]) * s[k // g, n]``, float16.

    Shapes: qweight int32 ``[K, N / 8]``, scales float16 ``[K / g, N]``, zeros int32
    ``[K / g, N / 8]``, weight float16 ``[K, N]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``kunlun_ops.awq_dequantize``.
    """
    name = "awq_dequantize"
    require(quant_type == 0, name, "quant_type", "0", quant_type)
    shape = qweight.shape[0], qweight.shape[1] * 8 if qweight.dim() == 2 else 0
    check_tensor(name, "weight", weight, _FLOAT16, 2)
    wide = _awq(name, qweight, ("scales", scales), ("zeros", zeros), group_m, align_type)
    check_shape(name, "weight", weight, shape)
    weight.copy_(wide)


def awq_gemm(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    scale: torch.Tensor,
    zeros: torch.Tensor,
    out: torch.Tensor,
    align_type: int,
    group_size: int,
) -> None:
    """``out = x W`` with ``W`` as of :func:`awq_dequantize`, float16 with float32 sums.

    Shapes: x float16 ``[M, K]``, w int32 ``[K, N / 8]``, scale float16 ``[K / g, N]``, zeros int32
    ``[K / g, N / 8]``, out float16 ``[M, N]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``kunlun_ops.awq_gemm``.
    """
    name = "awq_gemm"
    check_tensor(name, "x", x, _FLOAT16, 2)
    wide = _awq(name, w, ("scale", scale), ("zeros", zeros), group_size, align_type, "w")
    check_shape(name, "x", x, (x.shape[0], wide.shape[0]))
    check_tensor(name, "out", out, _FLOAT16, 2)
    check_shape(name, "out", out, (x.shape[0], wide.shape[1]))
    out.copy_(torch.mm(x.float(), wide))


def gptq_gemm(
    x: torch.Tensor,
    qweight: torch.Tensor,
    qzeros: torch.Tensor,
    scales: torch.Tensor,
    g_idx: torch.Tensor,
    use_exllama: bool,
    bits: int,
    /,
) -> torch.Tensor:
    """``x W`` with ``W = (q - (z + 1)) * s``, float32 sums.

    Words of ``qweight`` run along the input, lowest bits first; 4-bit zeros are in the fast layout
    of 64 columns, 8-bit ones run along the output. A non-empty ``g_idx`` is the order in which
    the inputs were quantised: row ``i`` of ``qweight`` belongs to input ``g_idx[i]``.

    Shapes: x ``[M, K]``, qweight int32 ``[K bits / 32, N]``, qzeros int32 ``[G, N bits / 32]``,
    scales ``[G, N]``, g_idx int32 ``[K]`` or empty -> ``[M, N]`` of the dtype of x.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``xspeedgate_ops.gptq_gemm``.
    """
    name = "xspeedgate_ops.gptq_gemm"
    require(bits in (4, 8), name, "bits", "4 or 8", bits)
    check_tensor(name, "x", x, FLOATS, 2)
    check_tensor(name, "qweight", qweight, _INT32, 2)
    check_tensor(name, "qzeros", qzeros, _INT32, 2)
    check_tensor(name, "scales", scales, (x.dtype,), 2)
    check_tensor(name, "g_idx", g_idx, _INT32, 1)
    per_word = 32 // bits
    inputs, outputs = qweight.shape[0] * per_word, qweight.shape[1]
    groups = scales.shape[0]
    check_shape(name, "x", x, (x.shape[0], inputs))
    check_shape(name, "scales", scales, (groups, outputs))
    check_shape(name, "qzeros", qzeros, (groups, outputs // per_word))
    ok = groups > 0 and inputs % groups == 0
    require(ok, name, "scales", f"of a number of groups that divides {inputs}", groups)
    require(g_idx.numel() in (0, inputs), name, "g_idx", f"empty or of {inputs}", g_idx.numel())
    if bits == 4:
        ok = outputs % FAST_LAYOUT_COLUMNS == 0
        expected = f"of a multiple of {FAST_LAYOUT_COLUMNS} columns for 4 bits"
        require(ok, name, "qzeros", expected, outputs)
        zeros = _fast(qzeros)
    else:
        zeros = _sequential(qzeros, bits)
    wide = torch.empty(inputs, outputs, dtype=torch.float32)
    words = qweight.numpy().view("uint32")
    kernels.use_threads(wide.numel())
    kernels.along_inputs(words, _rows(zeros + 1), _rows(scales), bits, wide.numpy())
    if g_idx.numel():
        x = x.index_select(1, g_idx)
    return torch.mm(x.float(), wide).to(x.dtype)


def _awq(
    function: str,
    words: torch.Tensor,
    scales: tuple[str, torch.Tensor],
    zeros: tuple[str, torch.Tensor],
    group: int,
    align_type: int,
    argument: str = "qweight",
) -> torch.Tensor:
    check_tensor(function, argument, words, _INT32, 2)
    inputs, row = words.shape
    ok = group > 0 and inputs % group == 0
    name = "group_m" if argument == "qweight" else "group_size"
    require(ok, function, name, f"a divisor of {inputs} rows", group)
    require(align_type in (0, 1), function, "align_type", "0 or 1", align_type)
    fits = align_type == 0 or row % 8 == 0
    require(fits, function, argument, "of a multiple of 8 words a row for align_type 1", row)
    check_tensor(function, scales[0], scales[1], _FLOAT16, 2)
    check_shape(function, scales[0], scales[1], (inputs // group, row * 8))
    check_tensor(function, zeros[0], zeros[1], _INT32, 2)
    check_shape(function, zeros[0], zeros[1], (inputs // group, row))
    unpack, loop = (_fast, kernels.fast_layout) if align_type else (_normal, kernels.normal_layout)
    wide = torch.empty(inputs, row * 8, dtype=torch.float32)
    codes = words.view(torch.uint8).numpy()
    kernels.use_threads(wide.numel())
    loop(codes, _rows(unpack(zeros[1])), _rows(scales[1]), wide.numpy())
    return wide


def _rows(values: torch.Tensor) -> Any:
    """float32, contiguous, as an array."""
    return values.float().contiguous().numpy()


def _sequential(words: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 ``[R, C]`` to float32 ``[R, C * 32 / bits]``, lowest bits first."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return ((words.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(1).float()


def _normal(words: torch.Tensor) -> torch.Tensor:
    nibbles = _sequential(words, 4).unflatten(1, (-1, 8))
    return nibbles[..., list(_NORMAL_COLUMNS)].flatten(1)  # the order is its own inverse


def _fast(words: torch.Tensor) -> torch.Tensor:
    """64 columns in 32 bytes: byte ``t`` holds column ``32 + t`` low and column ``t`` high."""
    bytes_ = words.contiguous().view(torch.uint8).unflatten(1, (-1, 32))
    return torch.cat([bytes_ >> 4, bytes_ & 15], dim=-1).flatten(1).float()
