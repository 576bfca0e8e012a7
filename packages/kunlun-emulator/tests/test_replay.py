# SPDX-License-Identifier: Apache-2.0
"""What a recording takes of a call, and what it leaves to the call itself."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.device.watch import Watch
from vllm_kunlun.emulator.functions.activation import swiglu
from vllm_kunlun.emulator.functions.int4 import awq_gemm, gptq_gemm
from vllm_kunlun.emulator.functions.int8 import matmul, quant2d
from vllm_kunlun.emulator.functions.norm import rmsnorm
from vllm_kunlun.emulator.kernels import int4_dots, int8, rows
from vllm_kunlun.emulator.replay import Kept, Recording, current


def test_a_replayable_function_is_its_loops() -> None:
    x, weight, out = torch.randn(3, 8), torch.rand(8), torch.empty(3, 8)
    recording = Recording({})
    with recording.open():
        assert current() is recording
        rmsnorm(x, weight, out, 1e-6)
    assert current() is None
    expected = out.clone()
    out.zero_()
    for call in recording.calls:
        call()
    assert torch.equal(out, expected)
    x.mul_(-1)
    for call in recording.calls:
        call()
    assert torch.equal(out, -expected)


@pytest.mark.skipif(not int8.is_there(), reason="a product of int8 is torch's here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_of_int8_is_its_loops(dtype: torch.dtype) -> None:
    x, bias = torch.randn(2, 70).to(dtype), torch.randn(33)
    weight = torch.randint(-128, 128, (33, 70), dtype=torch.int8)
    largest = torch.rand(33, 1)
    quantised, row_max = torch.empty(2, 70, dtype=torch.int8), torch.empty(2, 1)
    out = torch.empty(2, 33, dtype=dtype)

    def product() -> None:
        quant2d(x, quantised, row_max)
        matmul(x=quantised, w=weight, out=out, bias=bias, x_pc_max=row_max, w_pc_max=largest)

    recording = Recording({})
    watch = Watch(recording)
    with watch, recording.open():
        product()
    assert recording.calls and not watch.does_work
    x.copy_(torch.randn(2, 70))
    product()
    expected = out.clone()
    out.zero_()
    for call in recording.calls:
        call()
    assert torch.equal(out, expected)


@pytest.mark.skipif(not int4_dots.is_there(), reason="a product of int4 is torch's here")
@pytest.mark.parametrize("of_awq", [True, False])
def test_a_product_of_int4_is_its_loops(of_awq: bool) -> None:
    """Whatever the values are: a number that is not finite comes after the recording."""

    def words(*shape: int) -> torch.Tensor:
        return torch.randint(-(2**31), 2**31 - 1, shape, dtype=torch.int32)

    x, scales, nothing = torch.randn(2, 64).half(), torch.rand(2, 128).half(), words(0)
    qweight, zeros = words(64, 16) if of_awq else words(8, 128), words(2, 16)
    out = torch.empty(2, 128).half()

    def product() -> torch.Tensor:
        if of_awq:
            awq_gemm(x=x, w=qweight, scale=scales, zeros=zeros, out=out, align_type=1,
                     group_size=32)  # fmt: skip
            return out
        return gptq_gemm(x, qweight, zeros, scales, nothing, True, 4)

    recording = Recording({})
    watch = Watch(recording)
    with watch, recording.open():
        result = product()
    assert recording.calls and not watch.does_work
    x.copy_(torch.randn(2, 64))
    x[1, 3] = torch.inf
    expected = product().clone()
    assert not expected[1].isfinite().all()
    result.zero_()
    for call in recording.calls:
        call()
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def test_a_loop_that_no_function_answers_for_ends_the_recording() -> None:
    x, out = torch.randn(3, 8), torch.empty(3, 4)
    recording = Recording({})
    with recording.open():
        swiglu(x=x, y=out)
        rows.swiglu(x, out)
    assert not recording.calls


def test_what_is_kept_follows_the_values_it_was_made_from() -> None:
    source, made = torch.tensor([1, 2]), []

    def double() -> tuple[torch.Tensor]:
        made.append(source.tolist())
        if source[0] > 5:
            raise ValueError("too large")
        return (2 * source,)

    kept = Kept((source,), double)
    (values,) = kept.values
    kept.refresh()
    assert made == [[1, 2]]
    source.add_(1)
    kept.refresh()
    assert values.tolist() == [4, 6]
    source[0] = 6
    for _ in range(2):
        with pytest.raises(ValueError, match="too large"):
            kept.refresh()
    source[0] = 0
    kept.refresh()
    assert values.tolist() == [0, 6]


def test_a_change_of_any_source_is_seen() -> None:
    one, other, made = torch.tensor([1]), torch.tensor([2, 3]), []
    kept = Kept((one, other), lambda: made.append((one.tolist(), other.tolist())) or ())
    for source in (one, other):
        source.add_(5)
        for _ in range(2):
            kept.refresh()
    assert made == [([1], [2, 3]), ([6], [2, 3]), ([6], [7, 8])]


def test_one_step_keeps_one_table_for_all_its_layers() -> None:
    source, step = torch.tensor([1, 2]), {}
    one, other = Recording(step), Recording(step)
    values = [each.kept(("table",), (source,), lambda: (2 * source,)) for each in (one, other)]
    assert values[0][0] is values[1][0]
    assert len(step) == 1
    assert one.calls == other.calls
