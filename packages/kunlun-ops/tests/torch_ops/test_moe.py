# SPDX-License-Identifier: Apache-2.0
"""Choosing and running experts, against a loop over tokens in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.moe import grouped_top_k, run_experts, top_k
from vllm_kunlun.platforms.errors import UnsupportedError


def activate(name: str, x: Tensor) -> Tensor:
    if name == "swigluoai":  # arXiv:2508.10925: clamped, interleaved, up + 1
        gate, up = x[::2].clamp(max=7.0), x[1::2].clamp(-7.0, 7.0)
        return (up + 1) * gate / (1 + torch.exp(-1.702 * gate))
    gate, up = x.chunk(2)
    return (F.silu(gate) if name == "silu" else F.gelu(gate)) * up


def by_loop(x, w13, w2, weights, ids, activation="silu", b13=None, b2=None, keep=None):
    result = torch.zeros(x.shape, dtype=torch.float64)
    for t in range(x.shape[0]):
        for weight, e in zip(weights[t].double(), ids[t].tolist(), strict=True):
            if keep is not None and e not in keep:
                continue
            inner = w13[e].double() @ x[t].double() + (0 if b13 is None else b13[e].double())
            out = w2[e].double() @ activate(activation, inner)
            result[t] += weight * (out + (0 if b2 is None else b2[e].double()))
    return result


def problem(tokens: int, experts: int, choices: int, width: int = 24, inner: int = 20):
    torch.manual_seed(tokens)
    ids = torch.rand(tokens, experts).argsort(-1)[:, :choices].int()
    return (
        torch.randn(tokens, width),
        torch.randn(experts, 2 * inner, width) * width**-0.5,
        torch.randn(experts, width, inner) * inner**-0.5,
        torch.rand(tokens, choices),
        ids,
    )


# 2 choices: 199 and 200 tokens lie on either side of the fused function's limit, 384 and 385 of
# the small sorter's, 1024 is where a card may fuse the activation.
@pytest.mark.parametrize("tokens", [0, 1, 7, 199, 200, 384, 385, 1023, 1024])
def test_each_size_class(tokens: int) -> None:
    case = problem(tokens, 6, 2)
    torch.testing.assert_close(run_experts(*case).double(), by_loop(*case), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("form", "width"), [("no", 40), ("narrow", 20), ("half", 40)])
@pytest.mark.parametrize("tokens", [1023, 1024, 1100])
def test_the_activation_is_fused_where_a_card_has_proven_it(
    form: str, width: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str | None, int]] = []
    product = vendor_ops.moe_fc

    def noted(**arguments: Any) -> None:
        calls.append((arguments["act"], arguments["y"].shape[-1]))
        product(**arguments)

    monkeypatch.setattr(vendor_ops, "moe_fc", noted)
    monkeypatch.setattr("vllm_kunlun.ops.torch_ops.moe.chosen", lambda name: form)
    case = problem(tokens, 6, 2)
    torch.testing.assert_close(run_experts(*case).double(), by_loop(*case), rtol=1e-4, atol=1e-5)
    fused = form != "no" and tokens >= 1024
    assert calls == [("SWISH_GLU" if fused else None, width if fused else 40), (None, 24)]


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(0, 30),
    experts=st.integers(1, 17),
    data=st.data(),
    width=st.integers(1, 40),
    inner=st.integers(1, 40),
    activation=st.sampled_from(["silu", "gelu", "swigluoai"]),
    biased=st.booleans(),
)
def test_odd_shapes(tokens, experts, data, width, inner, activation, biased) -> None:
    choices = data.draw(st.integers(1, experts))
    case = problem(tokens, experts, choices, width, inner)
    b13 = torch.randn(experts, 2 * inner) if biased else None
    b2 = torch.randn(experts, width) if biased else None
    came = run_experts(*case, activation=activation, w13_bias=b13, w2_bias=b2)
    expected = by_loop(*case, activation, b13, b2)
    torch.testing.assert_close(came.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 30, 700])
@pytest.mark.parametrize("biased", [False, True])
def test_ranks_add_up_and_each_runs_its_own(tokens: int, biased: bool) -> None:
    """Three of seven experts here, four there; each rank's part equals the loop over its own."""
    x, w13, w2, weights, ids = problem(tokens, 7, 2)
    b13, b2 = (torch.randn(7, 40), torch.randn(7, 24)) if biased else (None, None)
    for keep in ([0, 1, 2], [3, 4, 5, 6]):
        expert_map = torch.full((7,), -1, dtype=torch.int32)
        expert_map[keep] = torch.arange(len(keep), dtype=torch.int32)
        biases = (None, None) if b13 is None or b2 is None else (b13[keep], b2[keep])
        came = run_experts(
            x, w13[keep], w2[keep], weights, ids,
            w13_bias=biases[0], w2_bias=biases[1], expert_map=expert_map,
        )  # fmt: skip
        expected = by_loop(x, w13, w2, weights, ids, b13=b13, b2=b2, keep=keep)
        torch.testing.assert_close(came.double(), expected, rtol=1e-4, atol=1e-5)


def in_int8(x: Tensor) -> Tensor:
    """``x`` in 127 steps of each row's absolute maximum."""
    step = x.double().abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (x.double() / step).round() * step


def by_loop_int8(x, w13, w2, weights, ids, activation, b13, b2, keep):
    result = torch.zeros(x.shape, dtype=torch.float64)
    for t in range(x.shape[0]):
        for weight, e in zip(weights[t].double(), ids[t].tolist(), strict=True):
            if e in keep:
                inner = w13[e] @ in_int8(x[t]) + (0 if b13 is None else b13[e].double())
                out = w2[e] @ in_int8(activate(activation, inner))
                result[t] += weight * (out + (0 if b2 is None else b2[e].double()))
    return result


@pytest.mark.parametrize("tokens", [0, 1, 30, 385, 1024])
@pytest.mark.parametrize(("activation", "biased"), [("silu", False), ("swigluoai", True)])
def test_int8_experts_on_one_rank_and_on_two(tokens, activation, biased) -> None:
    x, w13, w2, weights, ids = problem(tokens, 6, 2)
    b13, b2 = (torch.randn(6, 40), torch.randn(6, 24)) if biased else (None, None)
    stored, exact = [], []
    for weight in (w13, w2):
        largest = weight.abs().amax(-1, keepdim=True)
        quantised = (weight * 127 / largest).round()
        stored.append((quantised.to(torch.int8), largest))
        exact.append(quantised.double() * largest.double() / 127)
    for held in ({0, 1, 2, 3, 4, 5}, {1, 4, 5}):
        local = sorted(held)
        expert_map = torch.full((6,), -1, dtype=torch.int32)
        expert_map[local] = torch.arange(len(local), dtype=torch.int32)
        came = run_experts(
            x, stored[0][0][local], stored[1][0][local], weights, ids, activation=activation,
            w13_bias=None if b13 is None else b13[local],
            w2_bias=None if b2 is None else b2[local],
            w13_max=stored[0][1][local], w2_max=stored[1][1][local],
            expert_map=None if len(held) == 6 else expert_map,
        )  # fmt: skip
        error = came.double() - by_loop_int8(x, *exact, weights, ids, activation, b13, b2, held)
        # An inner value at a tie may be rounded the other way: one step of one of 20.
        assert error.abs().max() < 0.05 if tokens else came.shape == x.shape
        assert not tokens or error.abs().mean() < 2e-5


def test_weight_on_input_is_not_weight_on_output() -> None:
    x, w13, w2, weights, ids = problem(9, 5, 1)
    came = run_experts(x, w13, w2, weights, ids, weight_on_input=True)
    expected = by_loop(x * weights, w13, w2, torch.ones_like(weights), ids)
    torch.testing.assert_close(came.double(), expected, rtol=1e-4, atol=1e-5)


def test_weight_on_input_wants_one_expert_a_token() -> None:
    with pytest.raises(UnsupportedError, match=r"chooses one expert .* says 2"):
        run_experts(*problem(5, 6, 2), weight_on_input=True)


def test_unknown_activation_names_those_there_are() -> None:
    with pytest.raises(UnsupportedError, match="silu, gelu, swigluoai"):
        run_experts(*problem(2, 3, 1), activation="relu2")


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("groups", [None, (4, 2)])
def test_routing(scoring: str, renormalize: bool, biased: bool, groups: tuple | None) -> None:
    torch.manual_seed(3)
    logits, bias = torch.randn(40, 16), torch.randn(16) * 0.3 if biased else None
    weights, ids = torch.empty(40, 3), torch.empty(40, 3, dtype=torch.int32)
    if groups is None:
        top_k(logits, weights, ids, renormalize, scoring, bias)
    else:
        grouped_top_k(logits, weights, ids, *groups, bias, renormalize, scoring, 1.5)
    for t in range(40):
        row = logits[t].double()
        scores = row.softmax(0) if scoring == "softmax" else row.sigmoid()
        biased_scores = scores if bias is None else scores + bias.double()
        allowed = set(range(16))
        if groups is not None:
            parts = [sorted(biased_scores[g * 4 : g * 4 + 4].tolist()) for g in range(4)]
            value = [part[-1] if bias is None else sum(part[-2:]) for part in parts]
            best = sorted(range(4), key=lambda g: -value[g])[:2]
            allowed = {e for g in best for e in range(g * 4, g * 4 + 4)}
        chosen = sorted(allowed, key=lambda e: -float(biased_scores[e]))[:3]
        assert set(ids[t].tolist()) == set(chosen)
        expected = scores[ids[t].long()]
        expected = expected / expected.sum() if renormalize else expected
        expected = expected * (1.0 if groups is None else 1.5)
        torch.testing.assert_close(weights[t].double(), expected, rtol=1e-5, atol=1e-6)
