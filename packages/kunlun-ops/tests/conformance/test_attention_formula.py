# SPDX-License-Identifier: Apache-2.0
"""The formula that the attention cases expect, against torch's attention."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.conformance.attention_formula import attend


def test_the_formula_is_torchs_attention() -> None:
    """What the cases expect, against torch: grouped heads, the mask at the last key."""
    q, k, v = torch.randn(5, 6, 8), torch.randn(9, 2, 8), torch.randn(9, 2, 8)
    wide = [each.double().transpose(0, 1) for each in (q, k, v)]
    mask = torch.ones(5, 9).tril(4).bool()
    expected = torch.nn.functional.scaled_dot_product_attention(
        *wide, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(attend(q, k, v, 0.3)[0], expected.transpose(0, 1))
