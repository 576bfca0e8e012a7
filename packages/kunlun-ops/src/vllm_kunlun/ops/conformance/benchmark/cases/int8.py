# SPDX-License-Identifier: Apache-2.0
"""int8 linear layers: quantising the input, and the product with scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair, Scale, Sizes

__all__ = ["int8"]

SIZES: Sizes = {  # rows, inputs, outputs
    "full": [(1, 4096, 4096), (64, 4096, 4096), (512, 4096, 4096)],
    "quick": [(64, 2048, 2048)],
    "tiny": [(3, 32, 16)],
}


def int8(scale: Scale) -> Iterator[Benchmark]:
    for rows, inner, columns in SIZES[scale]:
        for name, build in (
            ("kunlun_ops.matmul", _matmul),
            ("xspeedgate_ops.cutlass_scaled_mm", _scaled_mm),
            ("xspeedgate_ops.cutlass_scaled_mm_azp", _scaled_mm_azp),
        ):
            yield Benchmark(
                "int8 product",
                (name,),
                f"{rows} x {inner} x {columns}",
                partial(build, rows=rows, inner=inner, columns=columns),
            )
        for name, quantise in (
            ("kunlun_ops.quant2d", _quant2d),
            ("xspeedgate_ops.static_scaled_int8_quant", _static),
            ("xspeedgate_ops.dynamic_scaled_int8_quant", _dynamic),
        ):
            yield Benchmark(
                "int8 quantisation",
                (name,),
                f"{rows} x {inner}",
                partial(quantise, rows=rows, inner=inner),
            )


def _int8(make: Maker, *shape: int) -> Tensor:
    return make.integers(-127, 128, *shape, dtype=torch.int8)


def _product(
    ours: Callable[[], Tensor], plain: Callable[[], Tensor], a: Tensor, b: Tensor, out: Tensor
) -> Pair:
    """``a [M, K]`` by ``b`` of ``N`` columns."""
    rows, inner = a.shape
    moved = a.numel() + b.numel() + out.numel() * out.element_size()
    operations = 2 * rows * inner * out.shape[1]
    return Pair(ours, plain, moved, operations, torch.int8)


def _matmul(make: Maker, rows: int, inner: int, columns: int) -> Pair:
    x, w, out = _int8(make, rows, inner), _int8(make, columns, inner), make.empty(rows, columns)
    x_max, w_max = make.uniform(rows, 1), make.uniform(columns, 1)

    def ours() -> Tensor:
        vendor_ops.matmul(x=x, w=w, out=out, x_pc_max=x_max, w_pc_max=w_max)
        return out

    def plain() -> Tensor:
        scale = (x_max / 127) * (w_max.T / 127)
        return (torch._int_mm(x, w.T) * scale).to(out.dtype)

    return _product(ours, plain, x, w, out)


def _scaled_mm(make: Maker, rows: int, inner: int, columns: int) -> Pair:
    a, b, out = _int8(make, rows, inner), _int8(make, inner, columns), make.empty(rows, columns)
    scale_a, scale_b = make.uniform(rows, 1) * 0.01, make.uniform(1, columns) * 0.01

    def ours() -> Tensor:
        vendor_ops.cutlass_scaled_mm(out, a, b, scale_a, scale_b, None)
        return out

    def plain() -> Tensor:
        return (torch._int_mm(a, b) * (scale_a * scale_b)).to(out.dtype)

    return _product(ours, plain, a, b, out)


def _scaled_mm_azp(make: Maker, rows: int, inner: int, columns: int) -> Pair:
    a, b, out = _int8(make, rows, inner), _int8(make, inner, columns), make.empty(rows, columns)
    scale_a, scale_b = make.uniform(rows, 1) * 0.01, make.uniform(1, columns) * 0.01
    azp = make.integers(-128, 128, rows, 1, dtype=torch.int32)
    sums = b.sum(0, dtype=torch.int32, keepdim=True)

    def ours() -> Tensor:
        vendor_ops.cutlass_scaled_mm_azp(out, a, b, scale_a, scale_b, sums, azp, None)
        return out

    def plain() -> Tensor:
        exact = torch._int_mm(a, b) - azp * sums
        return (exact * (scale_a * scale_b)).to(out.dtype)

    return _product(ours, plain, a, b, out)


def _quant2d(make: Maker, rows: int, inner: int) -> Pair:
    x, y = make.normal(rows, inner), make.empty(rows, inner, dtype=torch.int8)
    largest = make.empty(rows, 1, dtype=torch.float32)

    def ours() -> Tensor:
        vendor_ops.quant2d(x, y, largest)
        return y

    def plain() -> Tensor:
        return (x * (127 / x.abs().amax(-1, keepdim=True))).round().to(torch.int8)

    return Pair(ours, plain, x.numel() * (x.element_size() + 1), 0, torch.int8)


def _static(make: Maker, rows: int, inner: int) -> Pair:
    x, out = make.normal(rows, inner), make.empty(rows, inner, dtype=torch.int8)
    scale = make.tensor([0.03], torch.float32)

    def ours() -> Tensor:
        vendor_ops.static_scaled_int8_quant(out, x, scale, None)
        return out

    def plain() -> Tensor:
        return (x / scale).round().clamp(-128, 127).to(torch.int8)

    return Pair(ours, plain, x.numel() * (x.element_size() + 1), 0, torch.int8)


def _dynamic(make: Maker, rows: int, inner: int) -> Pair:
    x, out = make.normal(rows, inner), make.empty(rows, inner, dtype=torch.int8)
    scale = make.empty(rows, 1, dtype=torch.float32)
    azp = make.empty(rows, 1, dtype=torch.int32)

    def ours() -> Tensor:
        vendor_ops.dynamic_scaled_int8_quant(out, x, scale, azp)
        return out

    def plain() -> Tensor:
        low, high = x.aminmax(dim=-1, keepdim=True)
        step = (high.float() - low.float()) / 255
        zero = (-128 - low.float() / step).round()
        return ((x / step).round() + zero).clamp(-128, 127).to(torch.int8)

    return Pair(ours, plain, x.numel() * (x.element_size() + 1), 0, torch.int8)
