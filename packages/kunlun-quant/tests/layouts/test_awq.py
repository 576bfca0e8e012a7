# SPDX-License-Identifier: Apache-2.0
"""AWQ weights in the card's order: the layout by the width, scales in float16."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.layouts import awq, repack


@pytest.mark.parametrize(("words", "layout"), [(8, repack.FAST), (5, repack.NORMAL)])
@pytest.mark.parametrize("experts", [(), (3,)])
def test_conversion(words, layout, experts):
    generator = torch.Generator().manual_seed(0)
    qweight, qzeros = (
        torch.randint(-(2**31), 2**31, (*experts, rows, words), generator=generator).int()
        for rows in (16, 2)
    )
    scales = torch.rand(*experts, 2, 8 * words, generator=generator)
    came = awq.convert(qweight, qzeros, scales)
    assert came.layout == layout
    assert torch.equal(repack.kunlun_to_awq(came.qweight, layout), qweight)
    assert torch.equal(repack.kunlun_to_awq(came.qzeros, layout), qzeros)
    assert came.scales.dtype == torch.float16
    assert torch.equal(came.scales, scales.half())


def test_a_scale_that_float16_cannot_hold_is_refused():
    words = torch.zeros(16, 1, dtype=torch.int32)
    with pytest.raises(CheckpointError, match="infinite or not a number in float16"):
        awq.convert(words, words[:1], torch.full((1, 8), 7e4))
