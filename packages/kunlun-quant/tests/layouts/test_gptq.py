# SPDX-License-Identifier: Apache-2.0
"""Linear ops on packed weights against the float64 formula, odd shapes and odd zeros included."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops import check_op
from vllm_kunlun.ops.contract.limits import DEQUANTISE_TOKENS
from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.layouts import gptq, repack
from vllm_kunlun.quantization.torch_ops.packed import awq_linear, gptq_linear

TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def pack_rows(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """``[K, N]`` to int32 ``[K bits / 32, N]``: GPTQ's qweight."""
    fields = codes.long().unflatten(0, (-1, 32 // bits))
    words = sum(fields[:, i] << bits * i for i in range(32 // bits))
    return torch.as_tensor(words).to(torch.int32)


def case(inputs, outputs, groups, bits, seed=0, low=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(1 << bits, (inputs, outputs), generator=generator)
    zeros = torch.randint(low, (1 << bits) + 1, (groups, outputs), generator=generator)
    scales = torch.rand(groups, outputs, generator=generator).add(0.1) / (1 << bits)
    return codes, zeros, scales


def run(x, codes, zeros, scales, bits, g_idx):
    weights = gptq.convert(pack_rows(codes, bits), zeros, scales.to(x.dtype), bits, g_idx)
    return gptq_linear(
        x,
        weights.qweight,
        weights.qzeros,
        weights.scales,
        weights.order,
        weights.zero_correction,
        bits,
        codes.shape[1],
    ), weights


def check(x, codes, zeros, scales, g_idx, out):
    rounded = scales.to(x.dtype).double()
    weight = (codes - zeros[g_idx]).double() * rounded[g_idx]
    expected = x.double() @ weight
    scale = x.double().abs() @ weight.abs()
    assert out.dtype == x.dtype
    assert ((out.double() - expected).abs() <= TOLERANCE[x.dtype] * scale).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("outputs", [64, 40, 200])
def test_any_zero_and_any_width(bits, outputs, dtype):
    """Zeros from 0, which the stored form cannot hold, to one above the largest code."""
    codes, zeros, scales = case(64, outputs, 4, bits)
    assert (zeros == 0).any() or bits == 8
    zeros[0, 0] = 0
    x = torch.randn(5, 64).to(dtype)
    out, weights = run(x, codes, zeros, scales, bits, None)
    assert weights.zero_correction is not None
    check(x, codes, zeros, scales, torch.arange(64) // 16, out)


def test_without_a_zero_of_0_nothing_is_added():
    codes, zeros, scales = case(32, 64, 2, 4, low=1)
    x = torch.randn(3, 32)
    out, weights = run(x, codes, zeros, scales, 4, None)
    assert weights.zero_correction is None
    check(x, codes, zeros, scales, torch.arange(32) // 16, out)


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_in_the_order_of_their_activations(bits):
    codes, zeros, scales = case(96, 72, 3, bits)
    g_idx = (torch.arange(96) // 32)[torch.randperm(96)].to(torch.int32)
    x = torch.randn(5, 96)
    out, weights = run(x, codes, zeros, scales, bits, g_idx)
    assert weights.order is not None and weights.order.shape == (96,)
    check(x, codes, zeros, scales, g_idx.long(), out)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_rank_that_holds_unequal_parts_of_the_groups(bits):
    """One group of 70 rows, one of 1, one of none, one of 25."""
    codes, zeros, scales = case(96, 40, 4, bits)
    g_idx = torch.tensor([0] * 70 + [1] + [3] * 25)[torch.randperm(96)].to(torch.int32)
    x = torch.randn(5, 96)
    out, weights = run(x, codes, zeros, scales, bits, g_idx)
    assert weights.order.shape == ((3 + 1 + 0 + 1) * gptq.RUN_ROWS,)
    check(x, codes, zeros, scales, g_idx.long(), out)


def test_rows_already_in_order_are_left_alone():
    codes, zeros, scales = case(64, 64, 4, 4)
    _, weights = run(torch.randn(1, 64), codes, zeros, scales, 4, torch.arange(64) // 16)
    assert weights.order is None


def test_damaged_tensors_are_refused():
    codes, zeros, scales = case(64, 64, 4, 4)
    with pytest.raises(CheckpointError, match="0 to 4, and there are 4"):
        run(torch.randn(1, 64), codes, zeros, scales, 4, torch.arange(64) % 5)
    scales[1, 1] = torch.nan
    with pytest.raises(CheckpointError, match="not a number"):
        run(torch.randn(1, 64), codes, zeros, scales, 4, None)


def awq_parts(columns, seed=0):
    """Inputs 64, groups of 16."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(16, (64, columns), generator=generator)
    zeros = torch.randint(16, (4, columns), generator=generator)
    scales = (torch.rand(4, columns, generator=generator) / 16 + 0.01).half()
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    layout = repack.best_layout(columns // 8)
    words = []
    for values in (codes, zeros):
        fields = values.unflatten(1, (-1, 8))[..., order]
        packed = sum(fields[..., i] << 4 * i for i in range(8)).to(torch.int32)
        words.append(repack.awq_to_kunlun(packed, layout))
    weight = (codes - zeros.repeat_interleave(16, 0)).double()
    return (*words, scales, 16, layout), weight * scales.double().repeat_interleave(16, 0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("tokens", [0, 1, 7, DEQUANTISE_TOKENS])
@pytest.mark.parametrize("columns", [128, 40])
def test_awq_in_both_layouts(columns, tokens, dtype):
    arguments, weight = awq_parts(columns)
    x = torch.randn(tokens, 64).to(dtype)
    out = awq_linear(x, *arguments)
    assert out.dtype == dtype
    bound = max(TOLERANCE[dtype], 1e-3) * (x.double().abs() @ weight.abs())
    assert ((out.double() - x.double() @ weight).abs() <= bound).all()


def test_activations_beyond_float16_are_limited():
    """bfloat16 holds what float16 cannot; the product must stay finite."""
    arguments, _ = awq_parts(64)
    x = torch.zeros(1, 64, dtype=torch.bfloat16)
    x[0, 3] = 1e6
    assert torch.isfinite(awq_linear(x, *arguments)).all()


def test_declarations_of_the_ops():
    arguments, _ = awq_parts(64)
    check_op(awq_linear, torch.randn(3, 64).half(), *arguments)
    codes, zeros, scales = case(96, 72, 3, 4)
    g_idx = (torch.arange(96) // 32)[torch.randperm(96)]
    weights = gptq.convert(pack_rows(codes, 4), zeros, scales, 4, g_idx)
    check_op(
        gptq_linear,
        torch.randn(3, 96),
        weights.qweight,
        weights.qzeros,
        weights.scales,
        weights.order,
        weights.zero_correction,
        4,
        72,
    )
