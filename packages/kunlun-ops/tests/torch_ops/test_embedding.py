# SPDX-License-Identifier: Apache-2.0
"""Masking token ids of other ranks equals vLLM's own function, with the vendor's and without."""

from __future__ import annotations

import types

import pytest
import torch
from vllm.model_executor.layers.vocab_parallel_embedding import get_masked_input_and_mask

from vllm_kunlun.ops.torch_ops.embedding import mask_input
from vllm_kunlun.ops.vendor_ops import library

SLICES = [(0, 40, 8, 100, 104), (40, 80, 0, 104, 110), (80, 100, 20, 110, 110)]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("limits", SLICES)
def test_against_vllm(limits: tuple[int, ...], there: bool) -> None:
    ids = torch.arange(112)
    lacking = library.libraries().xspeedgate_ops if there else types.SimpleNamespace()
    with library.use_libraries(xspeedgate_ops=lacking):
        local, absent = mask_input(ids, *limits)
    expected, mask = get_masked_input_and_mask(ids, *limits)
    assert torch.equal(absent, mask)
    assert torch.equal(local, expected)
    assert absent.any() and not absent.all()
