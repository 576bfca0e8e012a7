# SPDX-License-Identifier: Apache-2.0
"""Attention of one request in float64, every score in the open; and keys laid out in pages."""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Inputs

__all__ = ["attend", "cumulative", "paged"]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    *,
    causal: bool = True,
    left: int = -1,
    right: int = -1,
    alibi: Tensor | None = None,
    sink: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """q ``[Lq, H, D]``, k and v ``[Lk, KVH, D]`` -> output ``[Lq, H, D]``, log-sum-exp ``[H, Lq]``.

    The last query stands at the last key. ``left`` keys are seen up to the query's own, which
    counts, and ``right`` after it; a query that sees no key gives zeros.
    """
    q, k, v = (each.double() for each in (q, k, v))
    queries, heads, _ = q.shape
    keys, kv_heads, _ = k.shape
    k, v = (each.repeat_interleave(heads // kv_heads, dim=1) for each in (k, v))
    distance = (torch.arange(queries) + keys - queries).unsqueeze(1) - torch.arange(keys)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if alibi is not None:
        scores = scores - alibi.double().view(-1, 1, 1) * distance
    if causal:
        scores = scores.masked_fill(distance < 0, -torch.inf)
    if left >= 0:
        scores = scores.masked_fill(distance >= left, -torch.inf)
    if right >= 0:
        scores = scores.masked_fill(-distance > right, -torch.inf)
    terms = scores
    if sink is not None:
        column = sink.double().view(-1, 1, 1).expand(-1, queries, 1)
        terms = torch.cat([scores, column], dim=-1)
    lse = terms.logsumexp(-1)
    weights = (scores - lse.unsqueeze(-1)).exp().nan_to_num(nan=0.0)
    return torch.einsum("hqk,khd->qhd", weights, v), lse


def cumulative(lengths: list[int]) -> list[int]:
    """Exclusive cumulative lengths, the total last."""
    return [sum(lengths[:index]) for index in range(len(lengths) + 1)]


def paged(
    inputs: Inputs,
    contents: list[Tensor],
    page: tuple[int, int, int],
    columns: int,
    *,
    alternating: bool,
    filler: float,
    unused: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Each request's ``[2, L, KVH, D]`` in pages at random: key cache, value cache, block table.

    What no request owns is ``filler``; entries of the table past a request's end are ``unused``.
    Where key and value pages are ``alternating`` in memory the table counts both kinds.

    Args:
        page: KV heads, block size, head size.
    """
    kv_heads, block_size, size = page
    counts = [-(-content.shape[1] // block_size) for content in contents]
    blocks = sum(counts) + 2
    memory = torch.full(
        (blocks, 2, kv_heads, block_size, size) if alternating
        else (2, blocks, kv_heads, block_size, size),
        filler, dtype=inputs.dtype,
    )  # fmt: skip
    axis = 1 if alternating else 0
    order = (inputs.permutation(blocks - 1) + 1).tolist()
    table = torch.full((len(contents), columns), unused, dtype=torch.int32)
    for request, (content, count) in enumerate(zip(contents, counts, strict=True)):
        for column in range(count):
            block = table[request, column] = order.pop()
            tokens = content[:, column * block_size : (column + 1) * block_size]
            for cache, part in zip(memory.unbind(axis), tokens, strict=True):
                cache[block, :, : part.shape[0]] = part.transpose(0, 1)
    keys, values = memory.unbind(axis)
    return keys, values, (table * 2 if alternating else table)
