# SPDX-License-Identifier: Apache-2.0
"""A whole mixture of experts: routing, sorting, two products, the weighted sum."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair, Scale, Sizes
from vllm_kunlun.ops.contract.limits import FUSED_PAIRS, SMALL_PAIRS
from vllm_kunlun.ops.torch_ops.moe import run_experts, top_k

__all__ = ["moe"]

SIZES: Sizes = {  # tokens, experts, choices, width, inner width
    "full": [(m, 64, 8, 1024, 512) for m in (1, 8, 32, 64, 128, 256, 1024)],
    "quick": [(m, 64, 8, 512, 256) for m in (1, 64, 256)],
    "tiny": [(m, 8, 2, 32, 16) for m in (1, 250, 400)],
}


def moe(scale: Scale) -> Iterator[Benchmark]:
    for tokens, experts, choices, width, inner in SIZES[scale]:
        yield Benchmark(
            "MoE",
            ("kunlun_ops.moe_softmax_topk_norm", *_path(tokens * choices)),
            f"M={tokens} E={experts} k={choices} {width}x{inner}",
            partial(_build, tokens=tokens, experts=experts, choices=choices, width=width,
                    inner=inner),
        )  # fmt: skip


def _path(pairs: int) -> tuple[str, ...]:
    """The functions that this number of pairs (token, choice) goes through."""
    if pairs < FUSED_PAIRS:
        return (
            "xspeedgate_ops.moe_pre_small",
            "xspeedgate_ops.moe_active_expert_balance",
            "xspeedgate_ops.fused_moe",
        )
    sort = (
        ("xspeedgate_ops.moe_pre_small",)
        if pairs <= SMALL_PAIRS
        else ("kunlun_ops.gen_block_statistic", "kunlun_ops.moe_pre_sorted")
    )
    return (*sort, "kunlun_ops.moe_fc", "kunlun_ops.swiglu", "kunlun_ops.moe_post")


def _build(make: Maker, tokens: int, experts: int, choices: int, width: int, inner: int) -> Pair:
    x, logits = make.normal(tokens, width), make.normal(tokens, experts, dtype=torch.float32)
    w13 = make.normal(experts, 2 * inner, width) * width**-0.5
    w2 = make.normal(experts, width, inner) * inner**-0.5
    weights = make.empty(tokens, choices, dtype=torch.float32)
    ids = make.empty(tokens, choices, dtype=torch.int32)

    def vendor() -> Tensor:
        top_k(logits, weights, ids, renormalize=True)
        return run_experts(x, w13, w2, weights, ids)

    def plain() -> Tensor:
        shares, chosen = logits.softmax(-1).topk(choices, dim=-1)
        shares = (shares / shares.sum(-1, keepdim=True)).to(x.dtype)
        result = torch.zeros_like(x)
        for expert in chosen.unique().tolist():
            token, choice = (chosen == expert).nonzero(as_tuple=True)
            gate, up = F.linear(x[token], w13[expert]).chunk(2, dim=-1)
            rows = F.linear(F.silu(gate) * up, w2[expert]) * shares[token, choice].unsqueeze(-1)
            result.index_add_(0, token, rows)
        return result

    used = int(logits.topk(choices, dim=-1).indices.unique().numel())
    item = x.element_size()
    moved = (used * 3 * inner * width + 2 * tokens * width) * item + logits.numel() * 4
    operations = 2 * tokens * choices * 3 * inner * width
    return Pair(vendor, plain, moved, operations, x.dtype)
