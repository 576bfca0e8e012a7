# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule in float64, one token after the other, and batches to try it on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.torch_ops import gdn

HEADS, VALUE_HEADS, KEY_SIZE, VALUE_SIZE = 2, 6, 24, 16


SCALE = KEY_SIZE**-0.5


TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def packed(lengths: list[int], dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    tokens = sum(lengths)
    return {
        "q": normal(1, tokens, HEADS, KEY_SIZE),
        "k": normal(1, tokens, HEADS, KEY_SIZE),
        "v": normal(1, tokens, VALUE_HEADS, VALUE_SIZE),
        "g": -torch.rand(1, tokens, VALUE_HEADS, generator=generator),
        "beta": torch.rand(1, tokens, VALUE_HEADS, generator=generator).to(dtype),
    }


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def by_token(batch: dict[str, Any], lengths: list[int], state: Tensor) -> tuple[Tensor, Tensor]:
    """The rule in float64, one token and one head after the other; ``state [N, HV, K, V]``."""
    q, k, v, g, beta = (batch[name][0].double() for name in ("q", "k", "v", "g", "beta"))
    state, output = state.double().clone(), torch.empty(v.shape, dtype=torch.float64)
    begin = 0
    for n, length in enumerate(lengths):
        for t in range(begin, begin + length):
            for head in range(VALUE_HEADS):
                query, key = (
                    x[t, head * HEADS // VALUE_HEADS] / (
                        x[t, head * HEADS // VALUE_HEADS].square().sum() + 1e-6
                    ).sqrt()
                    for x in (q, k)
                )  # fmt: skip
                matrix = state[n, head] * g[t, head].exp()
                delta = beta[t, head] * (v[t, head] - key @ matrix)
                state[n, head] = matrix + torch.outer(key, delta)
                output[t, head] = SCALE * query @ state[n, head]
        begin += length
    return output.unsqueeze(0), state


def by_chunk(batch: dict[str, Any], lengths: list[int], state: Tensor) -> tuple[Tensor, Tensor]:
    cumulative = starts(lengths)
    plan = gdn.plan_chunks(cumulative, torch.device("cpu"))
    return gdn.chunk_gated_delta_rule(
        *batch.values(), state, cumulative, plan.indices, plan.offsets, SCALE, True
    )


def assert_near(came: Tensor, expected: Tensor, tolerance: float) -> None:
    assert came.shape == expected.shape
    scale = max(float(expected.abs().max()), 1e-3) if expected.numel() else 1.0
    torch.testing.assert_close(came.double() / scale, expected.double() / scale, rtol=0,
                               atol=tolerance)  # fmt: skip


def hf_arguments(batch: dict[str, Any]) -> list[Tensor]:
    """HF gives every value head a key head of its own."""
    group = VALUE_HEADS // HEADS
    q, k = (batch[name].repeat_interleave(group, 2) for name in ("q", "k"))
    return [q, k, batch["v"], batch["g"], batch["beta"]]
