# SPDX-License-Identifier: Apache-2.0
"""Conversion for the vendor's GPTQ function; what it computes with it is tried with the op."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.layouts import gptq, repack


def pack_rows(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """``[K, N]`` to int32 ``[K bits / 32, N]``: GPTQ's qweight."""
    fields = codes.long().unflatten(0, (-1, 32 // bits))
    words = sum(fields[:, i] << bits * i for i in range(32 // bits))
    return torch.as_tensor(words).to(torch.int32)


def parts(inputs: int, outputs: int, groups: int, bits: int):
    generator = torch.Generator().manual_seed(inputs)
    codes = torch.randint(1 << bits, (inputs, outputs), generator=generator)
    zeros = torch.randint(1, (1 << bits) + 1, (groups, outputs), generator=generator)
    return pack_rows(codes, bits), zeros, torch.rand(groups, outputs, generator=generator)


def test_rows_already_in_order_are_left_alone():
    weights = gptq.convert(*parts(64, 64, 4, 4), 4, torch.arange(64) // 16)
    assert weights.order is None


def test_damaged_tensors_are_refused():
    qweight, zeros, scales = parts(64, 64, 4, 4)
    with pytest.raises(CheckpointError, match="0 to 4, and there are 4"):
        gptq.convert(qweight, zeros, scales, 4, torch.arange(64) % 5)
    scales[1, 1] = torch.nan
    with pytest.raises(CheckpointError, match="not a number in float32"):
        gptq.convert(qweight, zeros, scales, 4)


def test_zeros_by_hand():
    """Fields from the lowest bits on; the first format stores one less than the zero."""
    word = torch.tensor([[0x76543210]], dtype=torch.int32)
    assert gptq.unpack_zeros(word, 4).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert gptq.unpack_zeros(word, 4, 1).tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert gptq.unpack_zeros(word, 8).tolist() == [[0x10, 0x32, 0x54, 0x76]]
    assert gptq.ZERO_OFFSETS == {"": 1, "gptq": 1, "gptq_v2": 0}
    for bits in gptq.BITS:
        assert torch.equal(gptq.pack_columns(gptq.unpack_zeros(-word, bits), bits), -word)


@pytest.mark.parametrize(("bits", "middle"), [(4, 8), (8, 128)])
def test_a_symmetric_weights_zero_is_the_middle(bits, middle):
    zeros = gptq.constant_zeros(torch.ones(2, 3, dtype=torch.float16), bits)
    assert zeros.dtype == torch.int32
    assert zeros.tolist() == 2 * [3 * [middle]]


def test_the_zero_that_the_stored_form_lacks():
    """Stored 0 as if it were 1, and its scale kept for the correction; 1 and 5 as they are."""
    qweight, zeros, scales = parts(16, 64, 2, 4)
    zeros[0, :3] = torch.tensor([0, 1, 5])
    weights = gptq.convert(qweight, zeros, scales, 4)
    stored = gptq.unpack_zeros(repack.kunlun_to_gptq(weights.qzeros, repack.FAST), 4)
    assert stored[0, :3].tolist() == [0, 0, 4]
    correction = torch.zeros_like(scales)
    correction[0, 0] = scales[0, 0]
    assert torch.equal(weights.zero_correction, correction)


@pytest.mark.parametrize(("bits", "given", "filled"), [(4, 65, 128), (4, 64, 64), (8, 5, 8)])
def test_columns_are_filled_up(bits, given, filled):
    weights = gptq.convert(*parts(16, given, 2, bits), bits)
    assert weights.qweight.shape[1] == weights.scales.shape[1] == filled
    assert not weights.scales[:, given:].any()


def test_rows_of_8_bits():
    qweight = torch.tensor([[0x03020100], [0x07060504]], dtype=torch.int32)
    assert gptq.unpack_rows(qweight).flatten().tolist() == list(range(8))
