# SPDX-License-Identifier: Apache-2.0
"""Layers of 16 bits that oneDNN does not compute in, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vllm_kunlun.emulator.device import half_linear  # noqa: F401  (defines the op)
from vllm_kunlun.emulator.device.watch import Watch
from vllm_kunlun.emulator.replay import Recording

ROUNDING = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
op = torch.ops.vllm_kunlun_emulated.half_linear.default


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("lead", [(1,), (3, 5), (0,), (70,)], ids=str)
@pytest.mark.parametrize(("outputs", "inputs"), [(33, 48), (1100, 16), (9, 17)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_layer(
    with_bias: bool, outputs: int, inputs: int, lead: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Few rows and many, and inputs that are no whole vectors."""
    torch.manual_seed(outputs)
    x, weight = torch.randn(*lead, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    bias = torch.randn(outputs).to(dtype) if with_bias else None
    got = op(x, weight, bias)
    assert got.dtype == dtype and got.shape == (*lead, outputs)
    wide = None if bias is None else bias.double()
    expected = F.linear(x.double(), weight.double(), wide)
    limit = expected.abs() * ROUNDING[dtype]
    limit += F.linear(x.double().abs(), weight.double().abs()) * 2e-7 + 2.0**-25
    assert ((got.double() - expected).abs() <= limit).all()


def test_a_slice_of_a_wider_tensor() -> None:
    x, weight = torch.randn(4, 64).half(), torch.randn(20, 32).half()
    torch.testing.assert_close(
        op(x[:, 16:48], weight, None), F.linear(x[:, 16:48].float(), weight.float()).half()
    )


def test_the_op_is_what_torch_expects_of_an_op() -> None:
    torch.library.opcheck(
        op, (torch.randn(3, 16).half(), torch.randn(4, 16).half(), torch.randn(4).half()),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )  # fmt: skip


def test_few_rows_are_a_loop_that_a_recorded_step_repeats() -> None:
    x, weight, bias = torch.randn(2, 32).half(), torch.randn(24, 32).half(), torch.randn(24).half()
    recording = Recording({})
    watch = Watch(recording)
    with watch, recording.open():
        out = op.implementation(x, weight, bias)
    assert recording.calls and not watch.does_work
    x.copy_(torch.randn(2, 32))
    out.zero_()
    for call in recording.calls:
        call()
    assert torch.equal(out, op(x, weight, bias))
