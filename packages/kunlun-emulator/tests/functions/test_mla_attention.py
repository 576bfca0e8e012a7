# SPDX-License-Identifier: Apache-2.0
"""Attention over the latent cache, beside its conformance cases: by hand, in chunks, without rows.

What is refused is in test_refusals.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.functions import mla_attention
from vllm_kunlun.emulator.kunlun_ops import (
    fwd_kvcache_mla,
    paged_attention,
    sparse_prefill_fwd_opt,
)

HEADS, LATENT, ROPE = 2, 3, 1
WIDTH = LATENT + ROPE


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def prefill(q: torch.Tensor, kv: torch.Tensor, indices: torch.Tensor, **other: Any) -> Any:
    """``(out, max_logits, lse)``."""
    queries = q.shape[0]
    results = (
        torch.full((queries, HEADS, LATENT), torch.nan),
        torch.full((queries, HEADS), torch.nan),
        torch.full((queries, HEADS), torch.nan),
    )
    lod = ints(0, queries)
    sparse_prefill_fwd_opt(**{
        "q": q, "kv": kv, "indices": indices.unsqueeze(1), "sm_scale": 0.5, "qlod_cpu": lod,
        "qlod_xpu": lod, "kvlod_cpu": lod, "kvlod_xpu": lod, "d_v": LATENT, "is_causal": True,
        "use_xfa_boost": False,
        **dict(zip(("out", "max_logits", "lse"), results, strict=True)), **other,
    })  # fmt: skip
    return results


def decode(q: torch.Tensor, cache: torch.Tensor, indices: torch.Tensor) -> Any:
    """``(out, max_logits, p_sums)`` of requests of any number of queries."""
    requests, queries = q.shape[:2]
    results = (
        torch.full((requests, queries, HEADS, LATENT), torch.nan),
        torch.full((requests, queries, HEADS), torch.nan),
        torch.full((requests, queries, HEADS), torch.nan),
    )
    lengths = torch.full((requests,), 5, dtype=torch.int32)
    fwd_kvcache_mla(
        q_c=q, kv_cache=cache, indices=indices, kv_lod_cpu=lengths, kv_lod_xpu=lengths,
        softmax_scale=0.5, max_seq_kv=5,
        **dict(zip(("out", "max_logits", "p_sums"), results, strict=True)),
    )  # fmt: skip
    return results


def test_two_rows_by_hand() -> None:
    """Scores 0 and ln 3: the rows count 1 to 3, the largest is ln 3, the sum of all is 4."""
    q = torch.zeros(1, HEADS, WIDTH)
    q[..., -1] = 2 * math.log(3)
    kv = torch.tensor([[4.0, 0.0, 8.0, 0.0], [0.0, 4.0, 8.0, 1.0], [9.0, 9.0, 9.0, 9.0]])
    out, largest, lse = prefill(q, kv, ints(0, 1)[None])
    torch.testing.assert_close(out[0], torch.tensor([[1.0, 3.0, 8.0]]).expand(HEADS, -1))
    torch.testing.assert_close(largest, torch.full((1, HEADS), math.log(3)))
    torch.testing.assert_close(lse, torch.full((1, HEADS), math.log(4)))
    out, largest, total = decode(q[None], kv, ints(0, 1)[None, None])
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([1.0, 3.0, 8.0]))
    torch.testing.assert_close(largest[0], torch.full((1, HEADS), math.log(3)))
    torch.testing.assert_close(total[0], torch.full((1, HEADS), 4 / 3))


@pytest.mark.parametrize("nothing", [[], [-1, -1], [7, 3]], ids=["none", "negative", "beyond"])
def test_a_query_that_sees_nothing(nothing: list[int]) -> None:
    """Zeros, and the logarithm of no weight, whatever stands in the rows."""
    kv = torch.full((3, WIDTH), torch.nan)
    out, largest, lse = prefill(torch.ones(1, HEADS, WIDTH), kv, ints(*nothing)[None])
    assert not out.any()
    assert (largest == -math.inf).all()
    assert (lse == -math.inf).all()


def test_chunks_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(1)
    q = torch.randn(7, HEADS, WIDTH, generator=random)
    kv = torch.randn(20, WIDTH, generator=random)
    indices = torch.randint(-2, 20, (7, 5), generator=random, dtype=torch.int32)
    whole = prefill(q, kv, indices)
    monkeypatch.setattr(mla_attention, "CHUNK_ELEMENTS", 3 * 5 * WIDTH)
    for part, all_at_once in zip(prefill(q, kv, indices), whole, strict=True):
        torch.testing.assert_close(part, all_at_once, rtol=1e-6, atol=1e-6)


def test_two_queries_a_request_are_the_most() -> None:
    kv = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(0))
    decode(torch.ones(1, 2, HEADS, WIDTH), kv, torch.zeros(1, 2, 4, dtype=torch.int32))
    with pytest.raises(VendorContractError, match="1 to 2 queries"):
        decode(torch.ones(1, 3, HEADS, WIDTH), kv, torch.zeros(1, 3, 4, dtype=torch.int32))


def paged(lengths: list[int], table: torch.Tensor, cache: torch.Tensor, q: torch.Tensor) -> Any:
    out = torch.full((len(lengths), 1, HEADS, LATENT), torch.nan)
    own = ints(*lengths)
    paged_attention(out, q, cache, None, table, own, own.clone(), False, True, -1, LATENT, ROPE,
                    0.5, q_r=q)  # fmt: skip
    return out[:, 0]


def test_pages_equal_the_rows_that_they_hold() -> None:
    """Lengths within a page, at its end and across; a page that is not used may be any number."""
    random = torch.Generator().manual_seed(2)
    cache = torch.randn(6, 1, 4, WIDTH, generator=random)
    q = torch.randn(3, 1, HEADS, WIDTH, generator=random)
    table = torch.tensor([[5, -9, 99], [2, 0, 99], [3, 1, 4]], dtype=torch.int32)
    lengths = [3, 8, 9]
    found = paged(lengths, table, cache, q)
    for request, length in enumerate(lengths):
        pages = table[request, : -(-length // 4)].long()
        rows = cache[pages, 0].flatten(0, 1)[:length].double()
        weights = (0.5 * q[request, 0].double() @ rows.T).softmax(-1)
        torch.testing.assert_close(found[request].double(), weights @ rows[:, :LATENT],
                                   rtol=1e-5, atol=1e-6)  # fmt: skip


def test_no_requests() -> None:
    table = torch.empty(0, 2, dtype=torch.int32)
    assert paged([], table, torch.randn(2, 1, 4, WIDTH), torch.empty(0, 1, HEADS, WIDTH)).shape == (
        0, HEADS, LATENT,
    )  # fmt: skip
