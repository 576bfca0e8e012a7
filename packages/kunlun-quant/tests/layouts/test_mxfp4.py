# SPDX-License-Identifier: Apache-2.0
"""Decoding against numbers written out, and against HF's own dequantiser."""

from __future__ import annotations

import torch

from vllm_kunlun.quantization.layouts.mxfp4 import decode_mxfp4


def test_mxfp4_by_hand():
    low_then_high = torch.tensor([[0x21, 0xF7, *[0x00] * 14]], dtype=torch.uint8)
    came = decode_mxfp4(low_then_high, torch.tensor([[128]], dtype=torch.uint8))
    assert came.shape == (1, 32)
    assert came[0, :5].tolist() == [1.0, 2.0, 12.0, -12.0, 0.0]  # 0.5, 1, 6, -6, times 2


def test_mxfp4_equals_transformers():
    """HF's own dequantiser of gpt-oss, which gives the matrix transposed and in bfloat16."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 10, 4, 16), generator=generator, dtype=torch.uint8)
    exponents = torch.randint(110, 140, (3, 10, 4), generator=generator, dtype=torch.uint8)
    expected = convert_moe_packed_tensors(blocks, exponents)
    came = decode_mxfp4(blocks.flatten(2), exponents)
    assert torch.equal(came.transpose(1, 2), expected.float())
