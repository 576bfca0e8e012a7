# SPDX-License-Identifier: Apache-2.0
"""Loops over rows, against float64: odd widths, results over their own inputs, strided pages."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.kernels import rows

SHAPES = [(1, 1), (3, 33), (2, 5, 8)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROUNDING = {torch.float32: 1e-5, torch.float16: 2**-11, torch.bfloat16: 2**-8}
"""Half a step of the numbers between two powers of 2, with the float32 sums' own errors."""


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def normalised(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()


def near(came: torch.Tensor, expected: torch.Tensor) -> None:
    rtol = ROUNDING[came.dtype] + 1e-5
    torch.testing.assert_close(came.double(), expected, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rms_norm(
    shape: tuple[int, ...], in_place: bool, dtype: torch.dtype, random: torch.Generator
) -> None:
    x = torch.randn(shape, generator=random).to(dtype)
    weight = torch.randn(shape[-1], generator=random).to(dtype)
    expected = normalised(x, weight, 0.5)
    out = x if in_place else torch.full_like(x, torch.nan)
    rows.rms_norm(x, torch.nn.Parameter(weight), 0.5, out)
    near(out, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_add_rms_norm(
    shape: tuple[int, ...], in_place: bool, dtype: torch.dtype, random: torch.Generator
) -> None:
    """The norm is of the sum before it is rounded."""
    x, y = (torch.randn(shape, generator=random).to(dtype) for _ in range(2))
    weight = torch.randn(shape[-1], generator=random).to(dtype)
    total = x.double() + y.double()
    sums, out = (y, x) if in_place else (torch.empty_like(x), torch.empty_like(x))
    rows.add_rms_norm(x, y, sums, weight, 1e-6, out)
    near(sums, total)
    near(out, normalised(total, weight, 1e-6))


@pytest.mark.parametrize("shape", [(1, 2), (3, 66), (2, 5, 8)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_swiglu(shape: tuple[int, ...], dtype: torch.dtype, random: torch.Generator) -> None:
    x = (20 * torch.randn(shape, generator=random)).to(dtype)
    out = torch.empty(*shape[:-1], shape[-1] // 2, dtype=dtype)
    rows.swiglu(x, out)
    gate, up = x.double().chunk(2, -1)
    near(out, gate * gate.sigmoid() * up)


def test_swiglu_far_from_zero() -> None:
    """silu of -100 is -100 e^-100, below what float32 holds; of 100 it is 100."""
    out = torch.empty(2, 1)
    rows.swiglu(torch.tensor([[-100.0, 3.0], [100.0, 3.0]]), out)
    assert out[0].abs() < 1e-30
    assert out[1] == 300.0


@pytest.mark.parametrize("is_neox", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rotate(is_neox: bool, dtype: torch.dtype, random: torch.Generator) -> None:
    """The first 6 of 9 numbers turn; the rest stay bit for bit."""
    heads = torch.randn(4, 3, 9, generator=random).to(dtype)
    angles = torch.randn(4, 3, generator=random)
    kept = heads.clone()
    rows.rotate_(heads, angles.cos(), angles.sin(), is_neox)
    turning = kept[..., :6].double()
    a, b = turning.chunk(2, -1) if is_neox else (turning[..., ::2], turning[..., 1::2])
    cos, sin = angles.double().cos()[:, None], angles.double().sin()[:, None]
    turned = a * cos - b * sin, b * cos + a * sin
    expected = torch.cat(turned, -1) if is_neox else torch.stack(turned, -1).flatten(-2)
    near(heads[..., :6], expected)
    assert torch.equal(heads[..., 6:], kept[..., 6:])


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("slot_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_copy_to_slots(
    dtype: torch.dtype, slot_dtype: torch.dtype, alternating: bool, random: torch.Generator
) -> None:
    """Slot 0 is a slot as any other, -1 is none, and no other slot changes."""
    blocks, heads, block_size, size = 3, 2, 4, 5
    caches = torch.zeros(2, blocks, heads, block_size, size).to(dtype)
    if alternating:
        caches = caches.transpose(0, 1).contiguous().transpose(0, 1)
    slots = [0, -1, 11, 5]
    key, value = (torch.randn(4, heads, size, generator=random).to(dtype) for _ in range(2))
    rows.copy_to_slots(key, value, caches[0], caches[1], torch.tensor(slots, dtype=slot_dtype))
    expected = torch.zeros(2, blocks, heads, block_size, size).to(dtype)
    for token, slot in enumerate(slots):
        if slot >= 0:
            expected[0, slot // block_size, :, slot % block_size] = key[token]
            expected[1, slot // block_size, :, slot % block_size] = value[token]
    assert torch.equal(caches, expected)
