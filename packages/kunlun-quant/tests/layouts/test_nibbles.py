# SPDX-License-Identifier: Apache-2.0
"""The formulas on one word, written out."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.quantization.layouts import nibbles, repack
from vllm_kunlun.quantization.layouts.repack import NORMAL


def test_one_word_by_hand():
    """Columns 0 to 7 hold 0 to 7."""
    awq = torch.tensor([[0x75316420]], dtype=torch.int32)
    assert repack.awq_to_kunlun(awq, NORMAL).item() == 0x67452301
    assert repack.gptq_to_kunlun(torch.tensor([[0x76543210]]).int(), NORMAL).item() == 0x67452301


@pytest.mark.parametrize(
    ("formula", "words", "expected"),
    [
        (nibbles.swap_nibbles, (0x76543210,), (0x67452301,)),
        (nibbles.awq_to_normal, (0x75316420,), (0x67452301,)),
        (nibbles.normal_to_awq, (0x67452301,), (0x75316420,)),
        # Columns 0 to 7 in the first word, 32 to 39 (here 8 to 15) in the second.
        (nibbles.awq_to_fast, (0x75316420, 0xFDB9ECA8), (0x3B2A1908, 0x7F6E5D4C)),
        (nibbles.fast_to_awq, (0x3B2A1908, 0x7F6E5D4C), (0x75316420, 0xFDB9ECA8)),
        (nibbles.sequential_to_fast, (0x76543210, 0xFEDCBA98), (0x3B2A1908, 0x7F6E5D4C)),
        (nibbles.fast_to_sequential, (0x3B2A1908, 0x7F6E5D4C), (0x76543210, 0xFEDCBA98)),
    ],
)
def test_each_formula_by_hand(formula, words, expected):
    came = formula(*words)
    came = came if isinstance(came, tuple) else (came,)
    assert tuple(word & 0xFFFFFFFF for word in came) == expected
