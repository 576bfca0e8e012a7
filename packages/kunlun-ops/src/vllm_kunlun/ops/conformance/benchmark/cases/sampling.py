# SPDX-License-Identifier: Apache-2.0
"""Sampling from probabilities over a large vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair, Scale, Sizes

__all__ = ["sampling"]

TOP_K, TOP_P = 50, 0.9
SIZES: Sizes = {  # requests, tokens of the vocabulary
    "full": [(1, 151936), (16, 151936), (64, 151936)],
    "quick": [(16, 151936)],
    "tiny": [(2, 100)],
}


def sampling(scale: Scale) -> Iterator[Benchmark]:
    for requests, tokens in SIZES[scale]:
        for name, top_k, top_p in (
            ("top_p", None, TOP_P),
            ("top_k", TOP_K, None),
            ("top_k_top_p", TOP_K, TOP_P),
        ):
            yield Benchmark(
                "sampling",
                (f"kunlun_ops.{name}_sampling_from_probs",),
                f"B={requests} V={tokens}",
                partial(_build, requests=requests, tokens=tokens, top_k=top_k, top_p=top_p),
            )


def _build(make: Maker, requests: int, tokens: int, top_k: int | None, top_p: float | None) -> Pair:
    # Logits of this spread give a nucleus of some hundred tokens, as a language model's do.
    probs = (make.normal(requests, tokens, dtype=torch.float32) * 4).softmax(-1)
    ks = make.tensor([top_k or 0] * requests, torch.int32)
    ps = make.tensor([top_p or 0.0] * requests, torch.float32)

    def ours() -> Tensor:
        if top_k is None:
            return vendor_ops.top_p_sampling_from_probs(probs, top_p=ps)
        if top_p is None:
            return vendor_ops.top_k_sampling_from_probs(probs, top_k=ks)
        return vendor_ops.top_k_top_p_sampling_from_probs(probs, top_k=ks, top_p=ps)

    def plain() -> Tensor:
        kept, ids = probs.sort(dim=-1, descending=True)
        if top_k is not None:
            kept = kept[:, :top_k]
            kept = kept / kept.sum(-1, keepdim=True)
        if top_p is not None:
            kept = kept.masked_fill(kept.cumsum(-1) - kept >= ps.unsqueeze(1), 0.0)
        return ids.gather(1, kept.multinomial(1)).squeeze(1)

    moved = probs.numel() * probs.element_size()
    return Pair(ours, plain, moved, 0, probs.dtype, comparable=False)
