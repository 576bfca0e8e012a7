# SPDX-License-Identifier: Apache-2.0
"""Attention of the emulator beside plain torch on the same numbers.

    uv run python benchmarks/decode_attention.py [--json]

Decode: the paged function against `scaled_dot_product_attention` per request on keys that already
lie in one piece, so the ratio is the price of paging, batching and checks. Prefill: against
the same per request. SmolLM2's head counts, float32. Both sides run in turns and the least time of
each counts, so a busy machine disturbs the ratio little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from vllm_kunlun.ops.emulator import kunlun_ops

HEADS, KV_HEADS, SIZE, BLOCK = 9, 3, 64, 16
SECONDS = 1.0

DECODE = {
    "1 x 128": [128],
    "1 x 1024": [1024],
    "1 x 8192": [8192],
    "8 x 512": [512] * 8,
    "64 x 128": [128] * 64,
    "64 x 1024": [1024] * 64,
    "one of 8192 among 63 of 64": [8192] + [64] * 63,
}
PREFILL = {  # query lengths, cached lengths
    "1 x 128": ([128], None),
    "1 x 2048": ([2048], None),
    "16 x 128": ([128] * 16, None),
    "512 after 1024": ([512], [1024]),
    "4 x 128 after 512": ([128] * 4, [512] * 4),
}


def least_us(*functions: Callable[[], None]) -> list[float]:
    """Least time of each function in microseconds, run in turns."""
    for function in functions:
        function()
    best = [float("inf")] * len(functions)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for index, function in enumerate(functions):
            started = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - started)
    return [seconds * 1e6 for seconds in best]


def lod(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def pages_of(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Caches ``[2, blocks, KVH, BLOCK, D]`` and a block table of shuffled pages."""
    counts = [-(-length // BLOCK) for length in lengths]
    table = torch.zeros(len(lengths), max(counts), dtype=torch.int32)
    pages = iter((torch.randperm(sum(counts)) + 1).tolist())
    for row, count in enumerate(counts):
        table[row, :count] = torch.tensor([next(pages) for _ in range(count)])
    return torch.randn(2, sum(counts) + 1, KV_HEADS, BLOCK, SIZE), table


def measure_decode(lengths: list[int]) -> list[float]:
    cache, table = pages_of(lengths)
    batch = len(lengths)
    host = torch.tensor(lengths, dtype=torch.int32)
    call: dict[str, Any] = {
        "out": torch.empty(batch, HEADS, SIZE),
        "q": torch.randn(1, batch, HEADS, SIZE),
        "k_cache": cache[0],
        "v_cache": cache[1],
        "context_lens_cpu": host,
        "context_lens_xpu": host.clone(),
        "batch_num": batch,
        "qlen": 1,
        "max_context_len": 131072,
        "head_num": HEADS,
        "head_dim": SIZE,
        "scale": SIZE**-0.5,
        "kv_head_num": KV_HEADS,
        "block_size": BLOCK,
        "max_num_blocks_per_seq": table.shape[1],
        "max_window_size": -1,
        "block_tables": table,
        "sink": None,
    }
    query = torch.randn(batch, KV_HEADS, HEADS // KV_HEADS, SIZE)
    dense = [torch.randn(2, 1, KV_HEADS, length, SIZE) for length in lengths]

    def plain() -> None:
        for row, (keys, values) in enumerate(dense):
            F.scaled_dot_product_attention(query[row : row + 1], keys, values)

    return least_us(lambda: kunlun_ops.speculative_attention(**call), plain)


def measure_prefill(lengths: list[int], contexts: list[int] | None) -> list[float]:
    totals = [sum(pair) for pair in zip(lengths, contexts or [0] * len(lengths), strict=True)]
    call: dict[str, Any] = {
        "q": torch.randn(sum(lengths), HEADS, SIZE),
        "out": torch.empty(sum(lengths), HEADS, SIZE),
        "is_causal": True,
        "context_qlen_lod_cpu": lod(lengths),
        "context_qlen_lod_xpu": lod(lengths),
    }
    if contexts is None:
        call["k"], call["v"] = torch.randn(2, sum(lengths), KV_HEADS, SIZE)
    else:
        (call["k"], call["v"]), call["block_table"] = pages_of(totals)
        call |= {"is_prefix_cache": True, "context_kvlen_lod_cpu": lod(totals)}
        call["context_kvlen_lod_xpu"] = lod(totals)
    requests = []
    for length, total in zip(lengths, totals, strict=True):
        query, keys, values = (torch.randn(1, HEADS, n, SIZE) for n in (length, total, total))
        seen = None
        if length != total:
            seen = torch.ones(length, total, dtype=torch.bool).tril(total - length)
        requests.append((query, keys, values, seen))

    def plain() -> None:
        for query, keys, values, seen in requests:
            F.scaled_dot_product_attention(
                query, keys, values, attn_mask=seen, is_causal=seen is None
            )

    return least_us(lambda: kunlun_ops.prefill_attention(**call), plain)


def main() -> None:
    parser = argparse.ArgumentParser(description="Attention of the emulator beside plain torch.")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    as_json = parser.parse_args().json
    rows = []
    with torch.inference_mode():
        for name, lengths in DECODE.items():
            rows.append(("decode", name, *measure_decode(lengths)))
        for name, (lengths, contexts) in PREFILL.items():
            rows.append(("prefill", name, *measure_prefill(lengths, contexts)))
    results = [
        {"part": part, "case": case, "emulator_us": ours, "torch_us": plain, "ratio": ours / plain}
        for part, case, ours, plain in rows
    ]
    if as_json:
        print(json.dumps({"threads": torch.get_num_threads(), "results": results}))
        return
    for part, case, ours, plain in rows:
        print(f"{part:8}{case:30}{ours:12.0f} us {plain:12.0f} us {ours / plain:8.2f}")


if __name__ == "__main__":
    main()
