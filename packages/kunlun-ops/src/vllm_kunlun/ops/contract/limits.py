# SPDX-License-Identifier: Apache-2.0
"""The card's limits: each number that a function of the vendor sets, once.

The constants are what code reads; :data:`LIMITS` says of each what it bounds and how sure it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vllm_kunlun.platforms.card.limits import (
    MAX_DECODE_BATCH,
    MLA_BLOCK_SIZE,
    SUPPORTED_BLOCK_SIZES,
)

__all__ = [
    "CHUNK_TOKENS",
    "CLUSTERS",
    "DEQUANTISE_TOKENS",
    "FAST_LAYOUT_COLUMNS",
    "FUSED_ACTIVATION_TOKENS",
    "FUSED_PAIRS",
    "HEAD_SIZES",
    "LIMITS",
    "MAX_DECODE_BATCH",
    "MAX_DECODE_QUERIES",
    "MAX_FLASH_ATTN_HEAD_SIZE",
    "MAX_FLOAT16_ROWS",
    "MAX_SPARSE_QUERIES",
    "MLA_BLOCK_SIZE",
    "SMALL_PAIRS",
    "SUPPORTED_BLOCK_SIZES",
    "Limit",
]

HEAD_SIZES = (32, 64, 80, 96, 112, 120, 128, 192, 256, 512)
MAX_DECODE_QUERIES = 32
MAX_SPARSE_QUERIES = 2
MAX_FLOAT16_ROWS = 151_936
CLUSTERS = 12
FUSED_PAIRS = 400
SMALL_PAIRS = 768
FUSED_ACTIVATION_TOKENS = 1024
DEQUANTISE_TOKENS = 256
FAST_LAYOUT_COLUMNS = 64
CHUNK_TOKENS = 64
MAX_FLASH_ATTN_HEAD_SIZE = 256


@dataclass(frozen=True)
class Limit:
    """One number of the card.

    Attributes:
        name: of the constant.
        value: of it.
        unit: of what it counts.
        section: of the contract.
        tag: how sure it is: C certain, H known from older releases or from reports of users, I
            inferred.
        functions: that it bounds, "SURFACE.NAME"; none if no function of ours is meant.
        meaning: what happens at it.
    """

    name: str
    value: int | tuple[int, ...]
    unit: str
    section: int
    tag: Literal["C", "H", "I"]
    functions: tuple[str, ...]
    meaning: str


_DENSE = ("kunlun_ops.prefill_attention", "kunlun_ops.speculative_attention")
_INT4 = ("kunlun_ops.awq_dequantize", "kunlun_ops.awq_gemm", "xspeedgate_ops.gptq_gemm")
_CHUNKED = (
    "xspeedgate_ops.chunk_local_cumsum",
    "xspeedgate_ops.chunk_scaled_dot_kkt_fwd",
    "xspeedgate_ops.solve_tril_ns",
    "xspeedgate_ops.recompute_w_u_fwd",
    "xspeedgate_ops.chunk_gated_delta_rule_fwd_h",
    "xspeedgate_ops.chunk_fwd_o",
)

LIMITS: tuple[Limit, ...] = (
    Limit(
        "HEAD_SIZES",
        HEAD_SIZES,
        "elements",
        2,
        "H",
        _DENSE,
        "sizes of a head that dense attention takes",
    ),
    Limit(
        "MAX_DECODE_BATCH",
        MAX_DECODE_BATCH,
        "requests",
        2,
        "H",
        ("kunlun_ops.speculative_attention", "kunlun_ops.paged_attention"),
        "most requests of one decode call: it fails from 1024 on, which users saw",
    ),
    Limit(
        "MAX_DECODE_QUERIES",
        MAX_DECODE_QUERIES,
        "queries a request",
        2,
        "I",
        ("kunlun_ops.speculative_attention",),
        "most queries of a request in one decode call; with more it is a prefill",
    ),
    Limit(
        "SUPPORTED_BLOCK_SIZES",
        SUPPORTED_BLOCK_SIZES,
        "tokens",
        2,
        "H",
        (*_DENSE, "kunlun_ops.reshape_and_cache_flash", "kunlun_ops.reshape_and_cache"),
        "tokens of a page of the dense cache",
    ),
    Limit(
        "MLA_BLOCK_SIZE",
        MLA_BLOCK_SIZE,
        "tokens",
        3,
        "C",
        ("kunlun_ops.paged_attention",),
        "tokens of a page of the latent cache, and of the sparse indexer's",
    ),
    Limit(
        "MAX_SPARSE_QUERIES",
        MAX_SPARSE_QUERIES,
        "queries a request",
        3,
        "C",
        ("kunlun_ops.fwd_kvcache_mla",),
        "most queries of a request in one sparse decode call",
    ),
    Limit(
        "MAX_FLOAT16_ROWS",
        MAX_FLOAT16_ROWS,
        "rows",
        4,
        "H",
        (),
        "rows of a float16 weight in one product of torch: at 248320 it is silently wrong, and "
        "right on parts of the same weight (baidu/vLLM-Kunlun issue 387); where it turns wrong is "
        "not known. This is the vocabulary of Qwen3, whose serving on one card is published",
    ),
    Limit(
        "CLUSTERS",
        CLUSTERS,
        "clusters",
        5,
        "C",
        (
            "kunlun_ops.gen_block_statistic",
            "kunlun_ops.moe_pre_sorted",
            "kunlun_ops.moe_sigmoid_group_topk_norm",
        ),
        "rows of block_statistic, one for each cluster of compute units",
    ),
    Limit(
        "FUSED_PAIRS",
        FUSED_PAIRS,
        "pairs",
        5,
        "C",
        ("xspeedgate_ops.fused_moe", "xspeedgate_ops.moe_active_expert_balance"),
        "pairs (token, choice) from which on fused_moe is not used",
    ),
    Limit(
        "SMALL_PAIRS",
        SMALL_PAIRS,
        "pairs",
        5,
        "C",
        ("xspeedgate_ops.moe_pre_small",),
        "most pairs (token, choice) of one call; with more moe_pre_sorted takes its place",
    ),
    Limit(
        "FUSED_ACTIVATION_TOKENS",
        FUSED_ACTIVATION_TOKENS,
        "tokens",
        5,
        "H",
        ("kunlun_ops.moe_fc",),
        'tokens from which on act="SWISH_GLU" may take the place of swiglu, if the card finding '
        "moe-fused-swiglu allows it",
    ),
    Limit(
        "DEQUANTISE_TOKENS",
        DEQUANTISE_TOKENS,
        "tokens",
        6,
        "C",
        ("kunlun_ops.awq_dequantize", "kunlun_ops.awq_gemm"),
        "tokens from which on a weight dequantised once and a plain product are quicker than "
        "awq_gemm",
    ),
    Limit(
        "FAST_LAYOUT_COLUMNS",
        FAST_LAYOUT_COLUMNS,
        "columns",
        6,
        "C",
        _INT4,
        "columns of which the fast layout is made: a row of 4-bit numbers is a multiple of them",
    ),
    Limit(
        "CHUNK_TOKENS",
        CHUNK_TOKENS,
        "tokens",
        8,
        "C",
        _CHUNKED,
        "tokens of a chunk of the gated delta rule",
    ),
    Limit(
        "MAX_FLASH_ATTN_HEAD_SIZE",
        MAX_FLASH_ATTN_HEAD_SIZE,
        "elements",
        10,
        "I",
        ("flash_attn.flash_attn_func", "flash_attn.flash_attn_varlen_func"),
        "largest head",
    ),
)
"""In the order of the contract's sections."""
