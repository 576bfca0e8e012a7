# SPDX-License-Identifier: Apache-2.0
"""Experts with packed weights against the float64 formula, expert by expert."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.experts import packed_product

EXPERTS, INPUTS, OUTPUTS, GROUP = 6, 32, 24, 16


def codes(bits, outputs=OUTPUTS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    groups = INPUTS // GROUP
    q = torch.randint(1 << bits, (EXPERTS, INPUTS, outputs), generator=generator)
    z = torch.randint(1 << bits, (EXPERTS, groups, outputs), generator=generator)
    s = torch.rand(EXPERTS, groups, outputs, generator=generator).add(0.1) / (1 << bits)
    return q, z, s.half()


def fields(values, per_word):
    """The last dimension in words, lowest bits first."""
    parts = values.long().unflatten(-1, (-1, per_word))
    return sum(parts[..., i] << 32 // per_word * i for i in range(per_word)).to(torch.int32)


def by_inputs(q, bits):
    return fields(q.transpose(1, 2), 32 // bits).transpose(1, 2).contiguous()


def meant(q, z, s, g_idx=None):
    """``[E, N, K]``"""
    group = torch.arange(INPUTS).expand(EXPERTS, -1) // GROUP if g_idx is None else g_idx.long()
    rows = [(q[e] - z[e][group[e]]).double() * s[e][group[e]].double() for e in range(EXPERTS)]
    return torch.stack(rows).transpose(1, 2)


def check(experts, expected):
    for chosen in (None, torch.tensor([4, 0, 4])):
        found = experts.dequantise(chosen, torch.float32)
        wanted = expected if chosen is None else expected[chosen]
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("outputs", [24, 64])
def test_awq_in_both_layouts(outputs):
    q, z, s = codes(4, outputs)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    words = [fields(v.unflatten(-1, (-1, 8))[..., order].flatten(-2), 8) for v in (q, z)]
    check(packed_product.from_awq(*words, s), meant(q, z, s))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("ordered", [False, True])
def test_packed_along_the_input(bits, ordered):
    q, z, s = codes(bits)
    g_idx = None
    if ordered:
        generator = torch.Generator().manual_seed(1)
        order = torch.stack([torch.randperm(INPUTS, generator=generator) for _ in range(EXPERTS)])
        g_idx = (order // GROUP).to(torch.int32)
    experts = packed_product.from_gptq(by_inputs(q, bits), z, s, bits, g_idx)
    check(experts, meant(q, z, s, g_idx))


@pytest.mark.parametrize("tokens", [1, 40])
def test_experts_of_other_ranks_add_nothing(tokens):
    """Of 9 experts 6 are here; one token dequantises those that it chose, 40 all of them."""
    q, z, s = codes(8, 2 * INPUTS)
    w13, up = packed_product.from_gptq(by_inputs(q, 8), z, s, 8, None), meant(q, z, s)
    q, z, s = codes(8, INPUTS, seed=1)
    w2, down = packed_product.from_gptq(by_inputs(q, 8), z, s, 8, None), meant(q, z, s)
    here = torch.tensor([-1, 0, 1, -1, 2, 3, 4, 5, -1], dtype=torch.int32)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(tokens, INPUTS, generator=generator)
    # The first token chooses two experts of other ranks (0, 8) and one that is here; the next ones
    # go through all nine.
    ids = ((torch.arange(tokens)[:, None] + torch.tensor([0, 4, 8])) % 9).to(torch.int32)
    weights = torch.rand(tokens, 3, generator=generator) + 0.1
    out = packed_product.run_experts(
        x, w13, w2, weights, ids, activation="silu", weight_on_input=False, expert_map=here
    )
    expected = torch.zeros(tokens, INPUTS, dtype=torch.float64)
    for t in range(tokens):
        for weight, expert in zip(weights[t].tolist(), here[ids[t].long()].tolist(), strict=True):
            if expert >= 0:
                gate, linear = (up[expert] @ x[t].double()).chunk(2)
                inner = torch.nn.functional.silu(gate) * linear
                expected[t] += weight * (down[expert] @ inner)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_packed_is_refused():
    q, z, s = codes(4)
    with pytest.raises(UnsupportedError, match="another number of inputs"):
        g_idx = torch.zeros(EXPERTS, INPUTS, dtype=torch.int32)
        packed_product.from_gptq(by_inputs(q, 4), z, s, 4, g_idx)
    with pytest.raises(CheckpointError, match="gptq_v2"):
        packed_product.from_gptq(by_inputs(q, 4), z + 1, s, 4, None)
    s[0, 0, 0] = torch.inf
    with pytest.raises(CheckpointError, match="infinite"):
        packed_product.from_awq(by_inputs(q, 4), by_inputs(q, 4), s)


@pytest.mark.parametrize(("pairs", "weights"), [(5, 5), (6, 6), (7, 6)])
def test_how_many_weights_a_step_dequantises(pairs, weights, called, monkeypatch):
    """One for each pair of token and choice below as many pairs as experts, then each expert's."""
    seen, whole = [], []
    dequantise = vendor_ops.awq_dequantize
    monkeypatch.setattr(
        vendor_ops, "awq_dequantize",
        lambda **given: (
            seen.append(given["qweight"].shape[0]), whole.append(given["qweight"].data_ptr()),
            dequantise(**given),
        ),
    )  # fmt: skip
    q, z, s = codes(4, 2 * INPUTS)
    w13 = packed_product.from_gptq(by_inputs(q, 4), z, s, 4, None)
    q, z, s = codes(4, INPUTS)
    w2 = packed_product.from_gptq(by_inputs(q, 4), z, s, 4, None)
    ids = torch.arange(pairs, dtype=torch.int32).remainder(EXPERTS).view(-1, 1)
    packed_product.run_experts(
        torch.ones(pairs, INPUTS), w13, w2, torch.ones(pairs, 1), ids,
        activation="silu", weight_on_input=False, expert_map=None,
    )  # fmt: skip
    assert seen == [weights * INPUTS, weights * INPUTS]
    in_place = [w13.codes.data_ptr(), w2.codes.data_ptr()]
    assert (whole == in_place) is (pairs >= EXPERTS)
    assert called[:2] == 2 * ["awq_dequantize"]
