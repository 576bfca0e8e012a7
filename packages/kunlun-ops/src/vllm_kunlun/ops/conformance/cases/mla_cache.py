# SPDX-License-Identifier: Apache-2.0
"""The latent cache: writing, gathering, indices."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["MLA_CACHE"]

BLOCKS, BLOCK_SIZE, LATENT, ROPE = 6, 8, 24, 16
INTS = (torch.float32,)


def _write(inputs: Inputs, slots: list[int]) -> Call:
    kv_c, k_pe = inputs.normal(len(slots), LATENT), inputs.normal(len(slots), ROPE)
    cache = inputs.normal(BLOCKS, BLOCK_SIZE, LATENT + ROPE)
    expected = cache.double().clone()
    for token, slot in enumerate(slots):
        if slot >= 0:
            row = expected[slot // BLOCK_SIZE, slot % BLOCK_SIZE]
            row[:LATENT], row[LATENT:] = kv_c[token].double(), k_pe[token].double()
    mapping = inputs.tensor(slots, torch.int64)
    return Call((kv_c, k_pe, mapping, cache), expected={3: expected})


def _gather(inputs: Inputs, table: list[list[int]], starts: list[int], lengths: list[int]) -> Call:
    cache = inputs.normal(BLOCKS, BLOCK_SIZE, LATENT)
    total = sum(lengths)
    dst = inputs.normal(total + 2, LATENT)
    expected, row = dst.double().clone(), 0
    for blocks, start, length in zip(table, starts, lengths, strict=True):
        for position in range(start, start + length):
            block = blocks[position // BLOCK_SIZE]
            if block >= 0:
                expected[row] = cache[block, position % BLOCK_SIZE].double()
            row += 1
    cumulative = [sum(lengths[:b]) for b in range(len(lengths) + 1)]
    keywords = {
        "src_cache": cache,
        "dst": dst,
        "block_table": inputs.tensor(table, torch.int32).view(len(table), -1),
        "cu_seq_lens": inputs.tensor(cumulative, torch.int32),
        "batch_size": len(table),
        "kv_cache_dtype": "auto",
        "scale": inputs.tensor(1.0, torch.float32),
        "seq_starts": inputs.tensor(starts, torch.int32),
    }
    return Call(kwargs=keywords, expected={"dst": expected})


def _indices(inputs: Inputs) -> Call:
    table = [[4, 2, 7], [1, 5, 0]]
    requests = [0, 0, 1, 1]
    positions = [[0, 9, 23, -1], [24, 7, 8, 15], [-1, -1, 16, 3], [100, 2, 10, 20]]
    expected = [
        [
            -1
            if p < 0 or p // BLOCK_SIZE >= 3
            else table[r][p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE
            for p in row
        ]
        for r, row in zip(requests, positions, strict=True)
    ]
    keywords = {
        "req_id": inputs.tensor(requests, torch.int32),
        "block_table": inputs.tensor(table, torch.int32),
        "token_indices": inputs.tensor(positions, torch.int32),
        "block_size": BLOCK_SIZE,
        "num_topk_tokens": 4,
    }
    return Call(kwargs=keywords, expected={"return": torch.tensor(expected, dtype=torch.int32)})


_WRITE = "kunlun_ops.concat_and_cache_mla"
_GATHER = "xspeedgate_ops.gather_and_maybe_dequant_cache"
MLA_CACHE = (
    Case(_WRITE, "scattered", lambda i: _write(i, [3, 17, 8, 40])),
    Case(_WRITE, "negative slots", lambda i: _write(i, [-1, 5, -1]),
         assumption="mla-cache-negative-slot"),
    Case(_WRITE, "no tokens", lambda i: _write(i, [])),
    Case(_GATHER, "from the start", lambda i: _gather(i, [[1, 3], [5, 0]], [0, 0], [11, 5])),
    Case(_GATHER, "later chunk, one empty",
         lambda i: _gather(i, [[1, 3], [5, 0], [2, 4]], [6, 0, 9], [7, 0, 3])),
    Case(_GATHER, "negative block", lambda i: _gather(i, [[1, -1]], [4], [9]),
         assumption="mla-gather-negative-block"),
    Case("xspeedgate_ops.convert_req_index_to_global_index", "two requests", _indices, INTS),
)  # fmt: skip
