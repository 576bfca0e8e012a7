# SPDX-License-Identifier: Apache-2.0
"""W8A8 products against float64 formulas, and the declarations of the ops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops import check_op
from vllm_kunlun.quantization.torch_ops import int8

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
SHAPES = [(1, 5, 3), (7, 33, 65), (4, 576, 1536), (0, 16, 8)]


def made(rows: int, width: int, outputs: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(rows + width)
    x = torch.randn(rows, width, generator=generator).to(dtype) * 3 + 0.5
    weight = torch.randint(-128, 128, (outputs, width), generator=generator, dtype=torch.int8)
    scale = torch.rand(outputs, 1, generator=generator) * 0.01 + 0.001
    bias = torch.randn(outputs, generator=generator)
    return x, weight, scale, bias


def close(came: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    assert came.dtype == dtype
    tolerance = TOLERANCES[dtype]
    spread = float(exact.abs().max()) if exact.numel() else 1.0
    torch.testing.assert_close(came.double(), exact, rtol=tolerance, atol=tolerance * spread)


def rounded(x: Tensor, step: Tensor, azp: Tensor | float = 0.0) -> Tensor:
    """What int8 can say of ``x``, in float64."""
    return (((x.double() / step).round() + azp).clamp(-128, 127) - azp) * step


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_dynamic(shape, dtype, biased):
    x, weight, scale, bias = made(*shape, dtype)
    step = x.double().abs().amax(-1, keepdim=True) / 127
    exact = rounded(x, step) @ (weight.double() * scale.double()).T
    if biased:
        exact += bias.double()
    came = int8.int8_linear(x, weight, scale * 127, None, bias if biased else None)
    close(came, exact, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
def test_static(shape, dtype):
    x, weight, scale, bias = made(*shape, dtype)
    step = torch.tensor([0.03])  # 127 of them are 3.8: larger values saturate
    exact = rounded(x, step.double()) @ (weight.double() * scale.double()).T + bias.double()
    close(int8.int8_linear(x, weight, scale * 127, step, bias), exact, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("static", [False, True])
def test_asymmetric(shape, dtype, static):
    x, weight, scale, bias = made(*shape, dtype)
    sums = weight.sum(1, dtype=torch.int32).unsqueeze(0)
    step: Tensor | None = None
    azp: Tensor | None = None
    if static:
        step, azp = torch.tensor([0.03]), torch.tensor([-17], dtype=torch.int32)
        q = rounded(x, step.double(), -17.0)
        sums = sums * azp
    else:
        wide = x.double()
        low, high = wide.amin(-1, keepdim=True), wide.amax(-1, keepdim=True)
        exact_step = (high - low) / 255
        q = rounded(x, exact_step, (-128 - low / exact_step).round())
    exact = q @ (weight.double() * scale.double()).T + bias.double()
    came = int8.int8_linear_asymmetric(x, weight, scale.T.contiguous(), sums, step, azp, bias)
    close(came, exact, dtype)


def test_more_dimensions_and_a_strided_input():
    x, weight, scale, _ = made(12, 8, 5, torch.float32)
    flat = int8.int8_linear(x, weight, scale * 127, None, None)
    shaped = int8.int8_linear(x.view(3, 4, 8), weight, scale * 127, None, None)
    assert torch.equal(shaped, flat.view(3, 4, 5))
    wide = torch.cat([x, x], dim=1)[:, :8]
    assert torch.equal(int8.int8_linear(wide, weight, scale * 127, None, None), flat)


@pytest.mark.parametrize("static", [False, True])
def test_the_declarations_hold(static):
    x, weight, scale, bias = made(3, 16, 8, torch.float32)
    step = torch.tensor([0.03]) if static else None
    azp = torch.tensor([4], dtype=torch.int32) if static else None
    sums = weight.sum(1, dtype=torch.int32).unsqueeze(0)
    check_op(int8.int8_linear, x, weight, scale * 127, step, bias)
    check_op(int8.int8_linear_asymmetric, x, weight, scale.T.contiguous(), sums, step, azp, bias)
