# SPDX-License-Identifier: Apache-2.0
"""Attention with capped scores, in plain torch: no function of the vendor has the cap."""

from __future__ import annotations

import torch

__all__ = ["attend"]

TILE_SCORES = 1 << 24
"""Scores held at once (64 MiB in float32); longer queries are done in tiles."""


def attend(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    output: torch.Tensor,
    block_table: torch.Tensor,
    *,
    query_lens: torch.Tensor,
    seq_lens: torch.Tensor,
    max_query_len: int,
    max_seq_len: int,
    scale: float,
    soft_cap: float,
    window: int | None,
) -> None:
    """Fill ``output``; the cache already holds this step's keys and values.

    ``S = c * tanh((q . k) * scale / c)``; causal at the bottom right; a window of ``W`` keys counts
    the query's own; ``output = softmax(S) v``. Accumulated in float32.

    Shapes:
        query, output ``[T, H, D]`` (requests one after the other);
        caches ``[blocks, KVH, block_size, D]``, any strides; block_table int32 ``[B, max_blocks]``;
        query_lens, seq_lens int ``[B]`` on the device; the maxima are host integers.

    Source: Gemma 2, arXiv:2408.00118, section 2 (logit soft-capping).
    """
    requests, kv_heads = block_table.shape[0], key_cache.shape[1]
    group = query.shape[1] // kv_heads
    rows = torch.arange(max_query_len, device=query.device)
    firsts = query_lens.cumsum(0) - query_lens
    # Row i of request b is token firsts[b] + i; rows past a request's end go to a spare last token.
    spare = query.shape[0]
    tokens = (firsts.unsqueeze(1) + rows).masked_fill_(rows >= query_lens.unsqueeze(1), spare)
    result = output.new_empty((spare + 1, *output.shape[1:]))
    positions = (seq_lens - query_lens).unsqueeze(1) + rows

    keys, values = (
        _gather(cache, block_table, max_seq_len) for cache in (key_cache, value_cache)
    )  # [B, KVH, Lk, D]
    columns = torch.arange(max_seq_len, device=query.device)
    # Memory past a request's end may hold anything, and a weight of 0 does not undo a NaN there.
    past_end = columns >= seq_lens.unsqueeze(1)  # [B, Lk]
    values.masked_fill_(past_end[:, None, :, None], 0.0)
    tile = max(1, TILE_SCORES // (requests * query.shape[1] * max_seq_len))
    for start in range(0, max_query_len, tile):
        part = slice(start, start + tile)
        distance = positions[:, part].unsqueeze(2) - columns  # [B, tile, Lk]
        visible = distance >= 0
        if window is not None:
            visible &= distance < window
        part_tokens = tokens[:, part]
        part_query = query[part_tokens.clamp(max=spare - 1)].float()
        part_query = part_query.unflatten(2, (kv_heads, group))
        scores = torch.einsum("bikgd,bkjd->bkgij", part_query, keys).mul_(scale / soft_cap)
        scores = scores.tanh_().mul_(soft_cap)
        scores.masked_fill_(~visible[:, None, None], float("-inf"))
        part_output = torch.einsum("bkgij,bkjd->bikgd", scores.softmax(-1), values)
        result[part_tokens] = part_output.flatten(2, 3).to(output.dtype)
    output.copy_(result[:spare])


def _gather(cache: torch.Tensor, block_table: torch.Tensor, length: int) -> torch.Tensor:
    """Pages of each request side by side in float32: ``[B, KVH, length, D]``."""
    block_size = cache.shape[2]
    pages = block_table[:, : -(-length // block_size)].clamp(min=0).long()
    return cache[pages].transpose(1, 2).flatten(2, 3)[:, :, :length].float()
