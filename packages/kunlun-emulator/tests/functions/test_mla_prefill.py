# SPDX-License-Identifier: Apache-2.0
"""Prefill of latent attention as a step makes it: by hand, in chunks, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.emulator import kunlun_ops
from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.conformance.case import Inputs
from vllm_kunlun.ops.conformance.cases.mla_prefill import MLA_PREFILL
from vllm_kunlun.ops.vendor_ops.attention import EMPTY_LSE

CASES_BY_LABEL = {case.label: case for case in MLA_PREFILL}


def lod(*lengths: int) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def run(
    q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor | None = None, **changes: Any
) -> tuple[Tensor, Tensor]:
    """Causal without ``keys``; else over a chunk of the context."""
    out, lse = torch.full_like(q, math.nan), torch.full((q.shape[1], q.shape[0]), -math.inf)
    call: dict[str, Any] = {
        "q": q,
        "k_cache": k,
        "v_cache": v,
        "out": out,
        "is_causal": keys is None,
        "context_seq_lod_cpu": queries.clone(),
        "context_seq_lod_xpu": queries,
        "context_kvlen_lod_cpu": keys,
        "context_kvlen_lod_xpu": None if keys is None else keys.clone(),
        "alpha": 1.0,
        "softmax_lse": lse,
    }
    vendor_ops.attention(**call | changes)
    return out, lse


def test_keys_of_their_own_by_hand() -> None:
    """Equal scores: each row is the mean of its request's values, and ln of their number."""
    values = torch.tensor([1.0, 3.0, 4.0, 5.0, 9.0]).view(5, 1, 1).expand(5, 1, 4).contiguous()
    out, lse = run(torch.zeros(4, 1, 4), torch.randn(5, 1, 4), values, lod(1, 2, 1), lod(2, 3, 0))
    assert out[:, 0, 0].tolist() == [2.0, 6.0, 6.0, 0.0]
    expected = torch.tensor([[math.log(2), math.log(3), math.log(3), -math.inf]])
    torch.testing.assert_close(lse, expected)


def test_causal_by_hand() -> None:
    """Equal scores: row i is the mean of the first i + 1 values, and ln(i + 1)."""
    values = torch.tensor([1.0, 3.0, 8.0]).view(3, 1, 1).expand(3, 1, 4).contiguous()
    out, lse = run(torch.zeros(3, 1, 4), torch.randn(3, 1, 4), values, lod(3))
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(lse[0], torch.tensor([1.0, 2.0, 3.0]).log())


@pytest.mark.parametrize("chunk", [7, 16, 100])
def test_chunks_of_the_context_merged_are_torchs_attention_over_all(chunk: int) -> None:
    """New tokens causally, the context a chunk of each request at a time, merged by log-sum-exp."""
    new, contexts, heads, size, width = [5, 1, 9], [40, 0, 13], 3, 192, 128
    q = [torch.randn(n, heads, size) for n in new]
    k = [torch.randn(n + c, heads, size) for n, c in zip(new, contexts, strict=True)]
    v = [F.pad(torch.randn(each.shape[0], heads, width), (0, size - width)) for each in k]

    def packed(parts: list[Tensor], starts: list[int], stops: list[int]) -> Tensor:
        cut = zip(parts, starts, stops, strict=True)
        return torch.cat([part[start:stop] for part, start, stop in cut])

    ends = [n + c for n, c in zip(new, contexts, strict=True)]
    query = torch.cat(q)
    fresh = [packed(each, contexts, ends) for each in (k, v)]
    out, lse = run(query, *fresh, lod(*new))
    lse = lse.T.contiguous()
    for start in range(0, max(contexts), chunk):
        starts = [min(start, c) for c in contexts]
        stops = [min(start + chunk, c) for c in contexts]
        keys = lod(*(stop - first for first, stop in zip(starts, stops, strict=True)))
        pieces = [packed(each, starts, stops) for each in (k, v)]
        part, part_lse = run(query, *pieces, lod(*new), keys)
        merged, merged_lse = torch.empty_like(out), torch.empty_like(lse)
        part_lse = part_lse.T.contiguous().clamp_(min=EMPTY_LSE)
        vendor_ops.attention_merge_stage(part, part_lse, out, lse, merged, merged_lse)
        out, lse = merged, merged_lse
    expected = []
    for query_part, keys_part, values_part in zip(q, k, v, strict=True):
        rows, columns = query_part.shape[0], keys_part.shape[0]
        mask = torch.ones(rows, columns).tril(columns - rows).bool()
        wide = (each.double().transpose(0, 1) for each in (query_part, keys_part, values_part))
        attended = F.scaled_dot_product_attention(*wide, attn_mask=mask)
        expected.append(attended.transpose(0, 1))
    torch.testing.assert_close(out.double(), torch.cat(expected), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("queries", "keys", "argument"),
    [
        (lod(1, 2), lod(2, 2), "context_kvlen_lod_cpu"),  # not all keys
        (lod(1, 3), lod(2, 3), "context_seq_lod_cpu"),  # more than all queries
        (lod(1, 2), lod(5), "context_kvlen_lod_cpu"),  # another batch
        (lod(1, 2) + 1, lod(2, 3), "context_seq_lod_cpu"),  # not from 0
        (lod(1, 2), lod(6, -1), "context_kvlen_lod_cpu"),  # falls
    ],
)
def test_chunk_refuses_lods(queries: Tensor, keys: Tensor, argument: str) -> None:
    tensors = (torch.randn(3, 2, 8), torch.randn(5, 2, 8), torch.randn(5, 2, 8))
    run(*tensors, lod(1, 2), lod(2, 3))
    with pytest.raises(VendorContractError) as raised:
        run(*tensors, queries, keys)
    assert (raised.value.function, raised.value.argument) == ("attention", argument)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"context_kvlen_lod_cpu": None}, "context_kvlen_lod_cpu"),
        ({"context_kvlen_lod_xpu": lod(1, 4)}, "context_kvlen_lod_xpu"),  # another copy
        ({"is_causal": True}, "context_kvlen_lod_cpu"),
        ({"unpadded_lse": False}, "unpadded_lse"),
    ],
)
def test_a_chunk_needs_its_own_lod_and_its_lse_a_layout(
    changes: dict[str, Any], argument: str
) -> None:
    case = CASES_BY_LABEL["chunk of the context"]
    call = case.build(Inputs(0, torch.float32))
    with pytest.raises(VendorContractError) as raised:
        kunlun_ops.attention(**{**call.kwargs, **changes})
    assert raised.value.argument == argument
