# SPDX-License-Identifier: Apache-2.0
"""A layer of experts without vLLM's, and what it should answer: a loop over tokens in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vllm.config import VllmConfig, set_current_vllm_config

EXPERTS, HIDDEN, TOKENS, CHOICES = 5, 64, 9, 2


@pytest.fixture
def configured() -> Iterator[None]:
    with set_current_vllm_config(VllmConfig()):
        yield


@pytest.fixture
def layer() -> Callable[[str], torch.nn.Module]:
    """What a method reads of vLLM's layer, by activation."""
    return _layer


@pytest.fixture
def copy() -> Callable[..., None]:
    """A loader that fills the whole parameter."""
    return _copy


@pytest.fixture
def run() -> Callable[..., None]:
    """Hold a method against the loop."""
    return _run


def _layer(activation: str) -> torch.nn.Module:
    made = torch.nn.Module()
    made.layer_name = "m.experts"
    made.activation = activation
    made.apply_router_weight_on_input = False
    made.expert_map = None
    return made


def _copy(param: torch.nn.Parameter, loaded: Tensor, **_: Any) -> None:
    param.data.copy_(loaded)


def in_int8(x: Tensor) -> Tensor:
    step = x.double().abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (x.double() / step).round() * step


def _run(method: Any, of: torch.nn.Module, w13: Tensor, w2: Tensor, rounds: bool) -> None:
    """Hold ``method`` against the loop; ``w13`` and ``w2`` are the values that it should have."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(TOKENS, HIDDEN, generator=generator)
    ids = torch.rand(TOKENS, EXPERTS, generator=generator).argsort(-1)[:, :CHOICES].int()
    weights = torch.rand(TOKENS, CHOICES, generator=generator)
    came = method.apply(of, x, weights, ids)
    keep = in_int8 if rounds else Tensor.double
    exact = torch.zeros(TOKENS, HIDDEN, dtype=torch.float64)
    for token in range(TOKENS):
        for weight, expert in zip(weights[token].double(), ids[token].tolist(), strict=True):
            inner = w13[expert] @ keep(x[token])
            if of.activation == "silu":
                gate, up = inner.chunk(2)
                hidden = F.silu(gate) * up
            else:
                inner = inner + of.w13_bias[expert].double()
                gate, up = inner[::2].clamp(max=7), inner[1::2].clamp(-7, 7)
                hidden = (up + 1) * gate * torch.sigmoid(1.702 * gate)
            out = w2[expert] @ keep(hidden)
            if of.activation != "silu":
                out = out + of.w2_bias[expert].double()
            exact[token] += weight * out
    error, size = (came.double() - exact).abs(), exact.abs().mean()
    assert error.median() < 1e-5 * size
    assert error.max() < 0.02 * size  # an inner value at a tie
