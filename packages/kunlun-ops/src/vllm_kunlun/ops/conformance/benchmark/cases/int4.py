# SPDX-License-Identifier: Apache-2.0
"""int4 linear layers: AWQ and GPTQ, beside unpacking and multiplying in torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair, Scale, Sizes

__all__ = ["int4"]

GROUP = 128
FAST = 1
"""The layout in which byte t of 32 holds columns 32 + t (low) and t (high) of 64."""

SIZES: Sizes = {  # rows, inputs, outputs
    "full": [(1, 4096, 4096), (64, 4096, 4096), (512, 4096, 4096)],
    "quick": [(64, 1024, 1024)],
    "tiny": [(3, 128, 64)],
}


def int4(scale: Scale) -> Iterator[Benchmark]:
    for rows, inner, columns in SIZES[scale]:
        for area, name, build in (
            ("int4 product", "kunlun_ops.awq_gemm", _awq),
            ("int4 product", "xspeedgate_ops.gptq_gemm", _gptq),
        ):
            yield Benchmark(
                area,
                (name,),
                f"{rows} x {inner} x {columns}",
                partial(build, rows=rows, inner=inner, columns=columns),
            )
    for inner, columns in dict.fromkeys(size[1:] for size in SIZES[scale]):
        yield Benchmark(
            "int4 unpacking",
            ("kunlun_ops.awq_dequantize",),
            f"{inner} x {columns}",
            partial(_awq_dequantise, inner=inner, columns=columns),
        )


def _words(make: Maker, *shape: int) -> Tensor:
    return make.integers(-(1 << 31), 1 << 31, *shape, dtype=torch.int32)


def _fast(words: Tensor) -> Tensor:
    """Nibbles of ``[rows, N / 8]`` words in the fast layout, ``[rows, N]``."""
    data = words.view(torch.uint8).unflatten(1, (-1, 32))
    return torch.cat([data >> 4, data & 15], dim=-1).flatten(1)


def _awq_weight(qweight: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """``(q - z) s``, ``[K, N]``."""
    z = _fast(zeros).repeat_interleave(GROUP, 0)
    s = scales.repeat_interleave(GROUP, 0)
    return (_fast(qweight).to(s.dtype) - z.to(s.dtype)) * s


def _awq_inputs(make: Maker, inner: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    scales = (make.uniform(inner // GROUP, columns) * 0.02).to(torch.float16)
    return (
        _words(make, inner, columns // 8), scales, _words(make, inner // GROUP, columns // 8)
    )  # fmt: skip


def _packed_bytes(inner: int, columns: int) -> int:
    return inner * columns // 2 + inner // GROUP * columns * 5 // 2


def _awq(make: Maker, rows: int, inner: int, columns: int) -> Pair:
    qweight, scales, zeros = _awq_inputs(make, inner, columns)
    x = make.normal(rows, inner, dtype=torch.float16)
    out = make.empty(rows, columns, dtype=torch.float16)

    def ours() -> Tensor:
        vendor_ops.awq_gemm(
            x=x, w=qweight, scale=scales, zeros=zeros, out=out, align_type=FAST, group_size=GROUP
        )
        return out

    def plain() -> Tensor:
        return x @ _awq_weight(qweight, scales, zeros)

    moved = _packed_bytes(inner, columns) + 2 * (x.numel() + out.numel())
    return Pair(ours, plain, moved, 2 * rows * inner * columns, x.dtype)


def _awq_dequantise(make: Maker, inner: int, columns: int) -> Pair:
    qweight, scales, zeros = _awq_inputs(make, inner, columns)
    weight = make.empty(inner, columns, dtype=torch.float16)

    def ours() -> Tensor:
        vendor_ops.awq_dequantize(
            qweight=qweight, scales=scales, zeros=zeros, weight=weight, group_m=GROUP,
            align_type=FAST,
        )  # fmt: skip
        return weight

    moved = _packed_bytes(inner, columns) + 2 * weight.numel()
    return Pair(ours, lambda: _awq_weight(qweight, scales, zeros), moved, 0, weight.dtype)


def _gptq(make: Maker, rows: int, inner: int, columns: int) -> Pair:
    x = make.normal(rows, inner)
    qweight = _words(make, inner // 8, columns)
    zeros = _words(make, inner // GROUP, columns // 8)
    scales = (make.uniform(inner // GROUP, columns) * 0.02).to(make.dtype)
    no_order = make.empty(0, dtype=torch.int32)
    shifts = make.tensor(list(range(0, 32, 4)), torch.int32).view(1, 8, 1)

    def ours() -> Tensor:
        return vendor_ops.gptq_gemm(x, qweight, zeros, scales, no_order, 4)

    def plain() -> Tensor:
        q = ((qweight.unsqueeze(1) >> shifts) & 15).flatten(0, 1)
        z = (_fast(zeros) + 1).repeat_interleave(GROUP, 0)
        return x @ ((q - z.int()).to(x.dtype) * scales.repeat_interleave(GROUP, 0))

    moved = _packed_bytes(inner, columns) + (rows * (inner + columns)) * x.element_size()
    return Pair(ours, plain, moved, 2 * rows * inner * columns, x.dtype)
