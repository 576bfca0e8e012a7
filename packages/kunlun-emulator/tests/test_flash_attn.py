# SPDX-License-Identifier: Apache-2.0
"""flash_attn's two functions, beside their conformance cases: against torch, and the edges.

What is refused is in functions/test_refusals.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.emulator import flash_attn
from vllm_kunlun.emulator.checks import VendorContractError


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def exact(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """``[.., S, H, D]`` in float64."""
    wide = [each.double().transpose(-3, -2) for each in (q, k, v)]
    return F.scaled_dot_product_attention(*wide, scale=scale, enable_gqa=True).transpose(-3, -2)


@pytest.mark.parametrize("scale", [None, 0.9])
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (6, 2), (3, 3)])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 70), (70, 5)])
def test_a_batch(queries: int, keys: int, heads: int, kv_heads: int, scale: float | None) -> None:
    q, k = random(2, queries, heads, 24), random(2, keys, kv_heads, 24)
    v = k.flip(1) + 1
    came = flash_attn.flash_attn_func(q, k, v, softmax_scale=scale)
    torch.testing.assert_close(came.double(), exact(q, k, v, scale), rtol=1e-5, atol=1e-5)


def test_packed_sequences_without_queries_or_keys() -> None:
    """The second has no query, the third no key: zeros."""
    queries, keys = [0, 3, 3, 5, 9], [0, 4, 6, 6, 7]
    q, k = random(9, 4, 16), random(7, 2, 16)
    v = k.flip(0) + 1
    came = flash_attn.flash_attn_varlen_func(
        q, k, v, cu_seqlens_q=torch.tensor(queries, dtype=torch.int32),
        cu_seqlens_k=torch.tensor(keys, dtype=torch.int32), max_seqlen_q=4, max_seqlen_k=4,
    )  # fmt: skip
    for part, own in ((slice(0, 3), slice(0, 4)), (slice(5, 9), slice(6, 7))):
        wanted = exact(q[part], k[own], v[own], None)
        torch.testing.assert_close(came[part].double(), wanted, rtol=1e-5, atol=1e-5)
    assert not came[3:5].any()


def test_the_widest_head() -> None:
    wide = random(1, 2, 1, 256)
    flash_attn.flash_attn_func(wide, wide, wide)
    wide = random(1, 2, 1, 257)
    with pytest.raises(VendorContractError, match="up to 256"):
        flash_attn.flash_attn_func(wide, wide, wide)
