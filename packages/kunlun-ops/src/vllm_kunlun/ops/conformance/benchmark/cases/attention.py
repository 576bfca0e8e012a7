# SPDX-License-Identifier: Apache-2.0
"""Dense attention on the paged cache, and writing that cache."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair, Scale, Sizes

__all__ = ["attention"]

HEADS, KV_HEADS, SIZE, BLOCK_SIZE = 16, 2, 128, 64

DECODE: Sizes = {  # requests, tokens that each has
    "full": [(b, n) for b in (1, 8, 64) for n in (128, 2048, 8192)],
    "quick": [(1, 2048), (8, 2048), (64, 128)],
    "tiny": [(2, 70)],
}
PREFILL: Sizes = {  # requests, new tokens of each, tokens of each in the cache before
    "full": [(1, 128, 0), (1, 1024, 0), (1, 4096, 0), (8, 256, 0), (1, 512, 2048)],
    "quick": [(1, 512, 0), (1, 256, 1024)],
    "tiny": [(2, 5, 0), (1, 3, 64)],
}
WRITE: Sizes = {"full": [1, 64, 4096], "quick": [64], "tiny": [3]}  # tokens


def attention(scale: Scale) -> Iterator[Benchmark]:
    heads = f"H={HEADS}/{KV_HEADS} D={SIZE}"
    for requests, length in DECODE[scale]:
        yield Benchmark(
            "decode attention",
            ("kunlun_ops.speculative_attention",),
            f"B={requests} L={length} {heads}",
            partial(_decode, requests=requests, length=length),
        )
    for requests, new, cached in PREFILL[scale]:
        yield Benchmark(
            "prefill attention",
            ("kunlun_ops.prefill_attention",),
            f"B={requests} Lq={new}{f' after {cached}' if cached else ''} {heads}",
            partial(_prefill, requests=requests, new=new, cached=cached),
        )
    for tokens in WRITE[scale]:
        yield Benchmark(
            "cache write",
            ("kunlun_ops.reshape_and_cache_flash",),
            f"T={tokens} KVH={KV_HEADS} D={SIZE}",
            partial(_write, tokens=tokens),
        )


def _pages(make: Maker, requests: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Key pages, value pages, and a block table that scatters each request over them."""
    columns = -(-length // BLOCK_SIZE)
    pages = requests * columns
    keys, values = (make.normal(pages, KV_HEADS, BLOCK_SIZE, SIZE) for _ in range(2))
    table = torch.randperm(pages).view(requests, columns).to(torch.int32).to(make.device)
    return keys, values, table


def _gathered(pages: Tensor, table: Tensor, length: int) -> Tensor:
    """``[B, KVH, length, D]``"""
    chosen = pages[table].transpose(1, 2)  # [B, KVH, columns, block_size, D]
    return chosen.flatten(2, 3)[:, :, :length]


def _decode(make: Maker, requests: int, length: int) -> Pair:
    keys, values, table = _pages(make, requests, length)
    query, out = make.normal(1, requests, HEADS, SIZE), make.empty(requests, HEADS, SIZE)
    host, device = make.copies([length] * requests)

    def ours() -> Tensor:
        vendor_ops.speculative_attention(
            out=out,
            q=query,
            k_cache=keys,
            v_cache=values,
            context_lens_cpu=host,
            context_lens_xpu=device,
            batch_num=requests,
            qlen=1,
            max_context_len=131072,
            head_num=HEADS,
            head_dim=SIZE,
            scale=SIZE**-0.5,
            kv_head_num=KV_HEADS,
            block_size=BLOCK_SIZE,
            max_num_blocks_per_seq=table.shape[1],
            max_window_size=-1,
            block_tables=table,
            sink=None,
        )
        return out

    def plain() -> Tensor:
        k, v = (_gathered(pages, table, length) for pages in (keys, values))
        # The query heads of one key head stand as its rows: no key is copied for each of them.
        by_kv_head = query.view(requests, KV_HEADS, HEADS // KV_HEADS, SIZE)
        return F.scaled_dot_product_attention(by_kv_head, k, v).view(out.shape)

    read = 2 * requests * length * KV_HEADS * SIZE
    moved = (read + 2 * out.numel()) * out.element_size()
    return Pair(ours, plain, moved, 4 * requests * HEADS * length * SIZE, out.dtype)


def _prefill(make: Maker, requests: int, new: int, cached: int) -> Pair:
    tokens, total = requests * new, new + cached
    query, out = make.normal(tokens, HEADS, SIZE), make.empty(tokens, HEADS, SIZE)
    lod = make.copies([b * new for b in range(requests + 1)])
    kv_lod = make.copies([b * total for b in range(requests + 1)])
    by_request = (requests, -1)
    paged: dict[str, Any] = {}
    if cached:
        keys, values, table = _pages(make, requests, total)
        paged = {
            "is_prefix_cache": True,
            "block_table": table,
            "context_kvlen_lod_cpu": kv_lod[0],
            "context_kvlen_lod_xpu": kv_lod[1],
        }
        seen = torch.ones(new, total, dtype=torch.bool, device=make.device).tril(cached)
    else:
        keys, values = (make.normal(tokens, KV_HEADS, SIZE) for _ in range(2))

    def ours() -> Tensor:
        vendor_ops.prefill_attention(
            q=query,
            k=keys,
            v=values,
            out=out,
            is_causal=True,
            alpha=1.0,
            context_qlen_lod_cpu=lod[0],
            context_qlen_lod_xpu=lod[1],
            alibi_slopes=None,
            softmax_lse=None,
            swa_left=-1,
            swa_right=-1,
            sink=None,
            **paged,
        )
        return out

    def plain() -> Tensor:
        q = query.unflatten(0, by_request).transpose(1, 2)
        if cached:
            k, v = (_gathered(pages, table, total) for pages in (keys, values))
            result = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
        else:
            k, v = (part.unflatten(0, by_request).transpose(1, 2) for part in (keys, values))
            result = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return result.transpose(1, 2).reshape(out.shape)

    visible = requests * (new * cached + new * (new + 1) // 2)
    moved = (2 * out.numel() + 2 * requests * total * KV_HEADS * SIZE) * out.element_size()
    return Pair(ours, plain, moved, 4 * HEADS * visible * SIZE, out.dtype)


def _write(make: Maker, tokens: int) -> Pair:
    key, value = (make.normal(tokens, KV_HEADS, SIZE) for _ in range(2))
    blocks = 2 * -(-tokens // BLOCK_SIZE)
    ours_k, ours_v, plain_k, plain_v = (
        torch.zeros_like(make.empty(blocks, KV_HEADS, BLOCK_SIZE, SIZE)) for _ in range(4)
    )
    slots = torch.randperm(blocks * BLOCK_SIZE)[:tokens].to(make.device)

    def ours() -> Tensor:
        vendor_ops.reshape_and_cache_flash(key, value, ours_k, ours_v, slots, BLHD_LAYOUT=False)
        return ours_k

    def plain() -> Tensor:
        block, offset = slots // BLOCK_SIZE, slots % BLOCK_SIZE
        plain_k[block, :, offset] = key
        plain_v[block, :, offset] = value
        return plain_k

    return Pair(ours, plain, 4 * key.numel() * key.element_size(), 0, key.dtype)
