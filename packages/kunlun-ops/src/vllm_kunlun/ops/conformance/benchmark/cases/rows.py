# SPDX-License-Identifier: Apache-2.0
"""Norms, activations and rotation: work by row, bound by memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair, Scale, Sizes

__all__ = ["rows"]

EPS = 1e-6
NORM: Sizes = {  # rows, width
    "full": [(1, 4096), (64, 4096), (4096, 4096)],
    "quick": [(64, 4096)],
    "tiny": [(3, 32)],
}
ROTARY: Sizes = {  # tokens, query heads, key heads, head size
    "full": [(1, 16, 2, 128), (64, 16, 2, 128), (4096, 16, 2, 128)],
    "quick": [(64, 16, 2, 128)],
    "tiny": [(3, 2, 1, 32)],
}


def rows(scale: Scale) -> Iterator[Benchmark]:
    for count, width in NORM[scale]:
        for area, function, build in (
            ("norm", "rmsnorm", _norm),
            ("norm", "add_rmsnorm", _add_norm),
            ("norm", "gemma_rmsnorm", _gemma_norm),
            ("norm", "gemma_add_rmsnorm", _gemma_add_norm),
            ("norm", "rms_norm_gated", _gated_norm),
            ("activation", "swiglu", _swiglu),
        ):
            yield Benchmark(
                area,
                (f"kunlun_ops.{function}",),
                f"{count} x {width}",
                partial(build, count=count, width=width),
            )
    for tokens, heads, kv_heads, head_size in ROTARY[scale]:
        yield Benchmark(
            "rotary",
            ("kunlun_ops.rotary_embedding",),
            f"T={tokens} H={heads}/{kv_heads} D={head_size}",
            partial(_rotary, tokens=tokens, heads=(heads, kv_heads), head_size=head_size),
        )


def _pair(
    output: Tensor, run: Callable[[], object], plain: Callable[[], Tensor], passes: int
) -> Pair:
    """``passes``: how many tensors of the output's size are read or written."""

    def ours() -> Tensor:
        run()
        return output

    return Pair(ours, plain, passes * output.numel() * output.element_size(), 0, output.dtype)


def _norm(make: Maker, count: int, width: int) -> Pair:
    x, weight, out = make.normal(count, width), make.normal(width), make.empty(count, width)
    return _pair(
        out,
        lambda: vendor_ops.rmsnorm(x, weight, out, EPS),
        lambda: F.rms_norm(x, (width,), weight, EPS),
        passes=2,
    )


def _add_norm(make: Maker, count: int, width: int) -> Pair:
    x, y, weight = make.normal(count, width), make.normal(count, width), make.normal(width)
    out, total = torch.empty_like(x), torch.empty_like(x)
    return _pair(
        out,
        lambda: vendor_ops.add_rmsnorm(
            x, y, residual_output=total, weight=weight, eps=EPS, output=out
        ),
        lambda: F.rms_norm(x + y, (width,), weight, EPS),
        passes=4,
    )


def _gemma_norm(make: Maker, count: int, width: int) -> Pair:
    x, weight, out = make.normal(count, width), make.normal(width), make.empty(count, width)
    return _pair(
        out,
        lambda: vendor_ops.gemma_rmsnorm(x, weight, out, EPS),
        lambda: F.rms_norm(x, (width,), 1 + weight, EPS),
        passes=2,
    )


def _gemma_add_norm(make: Maker, count: int, width: int) -> Pair:
    x, y, weight = make.normal(count, width), make.normal(count, width), make.normal(width)
    out, total = torch.empty_like(x), torch.empty_like(x)
    return _pair(
        out,
        lambda: vendor_ops.gemma_add_rmsnorm(
            x, y, weight=weight, output=out, eps=EPS, residual_output=total
        ),
        lambda: F.rms_norm(x + y, (width,), 1 + weight, EPS),
        passes=4,
    )


def _gated_norm(make: Maker, count: int, width: int) -> Pair:
    x, z, weight = make.normal(count, width), make.normal(count, width), make.normal(width)
    out = torch.empty_like(x)
    return _pair(
        out,
        lambda: vendor_ops.rms_norm_gated(x, out, z, weight, EPS, None, True),
        lambda: F.rms_norm(x, (width,), weight, EPS) * F.silu(z),
        passes=3,
    )


def _swiglu(make: Maker, count: int, width: int) -> Pair:
    x, out = make.normal(count, 2 * width), make.empty(count, width)

    def plain() -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up

    return _pair(out, lambda: vendor_ops.swiglu(x=x, y=out), plain, passes=3)


def _rotary(make: Maker, tokens: int, heads: tuple[int, int], head_size: int) -> Pair:
    query, key = (make.normal(tokens, count * head_size) for count in heads)
    angles = make.uniform(8192, head_size // 2) * 6.28
    table = torch.cat([angles.cos(), angles.sin()], dim=-1).to(make.dtype)
    positions = make.integers(0, 8192, tokens, dtype=torch.int64)
    # The vendor's function turns what it is given, further with each call.
    turned, turned_key = query.clone(), key.clone()

    def ours() -> Tensor:
        vendor_ops.rotary_embedding(
            positions=positions,
            query=turned,
            key=turned_key,
            head_size=head_size,
            cos_sin_cache=table,
            is_neox=True,
        )
        return turned

    def plain() -> Tensor:
        cos, sin = table[positions].unsqueeze(1).chunk(2, dim=-1)

        def turn(flat: Tensor) -> Tensor:
            a, b = flat.unflatten(1, (-1, head_size)).chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(1)

        turn(key)
        return turn(query)

    moved = 2 * (query.numel() + key.numel()) + tokens * head_size
    return Pair(ours, plain, moved * query.element_size(), 0, query.dtype)
