# SPDX-License-Identifier: Apache-2.0
"""Repacking: the contract's decoded tables written out, and exact round trips of random bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.quantization.layouts import repack
from vllm_kunlun.quantization.layouts.repack import FAST, NORMAL

AWQ = [0, 2, 4, 6, 1, 3, 5, 7]
KUNLUN_NORMAL = [1, 0, 3, 2, 5, 4, 7, 6]
# Byte t of 32: low nibble column 32 + t, high nibble column t.
KUNLUN_FAST = [
    32, 0, 33, 1, 34, 2, 35, 3, 36, 4, 37, 5, 38, 6, 39, 7,
    40, 8, 41, 9, 42, 10, 43, 11, 44, 12, 45, 13, 46, 14, 47, 15,
    48, 16, 49, 17, 50, 18, 51, 19, 52, 20, 53, 21, 54, 22, 55, 23,
    56, 24, 57, 25, 58, 26, 59, 27, 60, 28, 61, 29, 62, 30, 63, 31,
]  # fmt: skip
# What the plugin of record gathers from 64 nibbles of AWQ (contract section 6).
GATHER_FAST = [
    index + 8 * i
    for i in range(4)
    for index in [32, 0, 36, 4, 33, 1, 37, 5, 34, 2, 38, 6, 35, 3, 39, 7]
]
GATHER_NORMAL = [4, 0, 5, 1, 6, 2, 7, 3]


def nibbles(words: torch.Tensor) -> torch.Tensor:
    """``[R, W]`` to ``[R, 8 W]``, lowest bits first, by numpy's unpacking of bits."""
    low_first = words.contiguous().view(torch.uint8)
    return torch.stack([low_first & 15, low_first >> 4], -1).flatten(1)


def pack(values: torch.Tensor, order: list[int]) -> torch.Tensor:
    """Word by word: nibble ``i`` holds the column ``order[i]`` of each ``len(order)``."""
    rows = []
    for row in values.tolist():
        blocks = [row[i : i + len(order)] for i in range(0, len(row), len(order))]
        line = [block[column] for block in blocks for column in order]
        rows.append([sum(v << 4 * i for i, v in enumerate(line[w : w + 8]))
                     for w in range(0, len(line), 8)])  # fmt: skip
    return torch.tensor(rows, dtype=torch.int64).to(torch.int32)


@pytest.fixture(params=["host", "tensors"])
def way(request, monkeypatch):
    """The compiled loops, and the tensor operations that run off the host."""
    if request.param == "tensors":
        off_the_host(monkeypatch)


def off_the_host(monkeypatch):
    monkeypatch.setattr(repack, "_on_host", lambda words: False)
    monkeypatch.setattr(repack, "PIECE_WORDS", 64)


@pytest.mark.parametrize("columns", [8, 24, 64, 192])
def test_normal_layout_is_the_contracts_table(columns, way):
    values = torch.randint(16, (5, columns))
    words = pack(values, AWQ)
    converted = repack.awq_to_kunlun(words, NORMAL)
    assert torch.equal(converted, pack(values, KUNLUN_NORMAL))
    gathered = nibbles(words).unflatten(1, (-1, 8))[..., GATHER_NORMAL].flatten(1)
    assert torch.equal(nibbles(converted), gathered)
    assert torch.equal(repack.gptq_to_kunlun(pack(values, list(range(8))), NORMAL), converted)


@pytest.mark.parametrize("columns", [64, 192])
def test_fast_layout_is_the_contracts_table(columns, way):
    values = torch.randint(16, (5, columns))
    words = pack(values, AWQ)
    converted = repack.awq_to_kunlun(words, FAST)
    assert torch.equal(converted, pack(values, KUNLUN_FAST))
    gathered = nibbles(words).unflatten(1, (-1, 64))[..., GATHER_FAST].flatten(1)
    assert torch.equal(nibbles(converted), gathered)
    assert torch.equal(repack.gptq_to_kunlun(pack(values, list(range(8))), FAST), converted)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 9),
    blocks=st.integers(1, 5),
    layout=st.sampled_from([NORMAL, FAST]),
    host=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_round_trips_are_exact(rows, blocks, layout, host, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, blocks * (8 if layout else 3))
    words = torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)
    before = words.clone()
    with pytest.MonkeyPatch.context() as patch:
        if not host:
            off_the_host(patch)
        for there, back in (
            (repack.awq_to_kunlun, repack.kunlun_to_awq),
            (repack.gptq_to_kunlun, repack.kunlun_to_gptq),
        ):
            assert torch.equal(back(there(words, layout), layout), words)
            assert torch.equal(there(back(words, layout), layout), words)
        wide = words.repeat(1, 8)
        assert torch.equal(repack.pack_inputs(repack.pack_outputs(wide)), wide)
        tall = words.repeat(8, 1)
        assert torch.equal(repack.pack_outputs(repack.pack_inputs(tall)), tall)
    assert torch.equal(words, before)


def test_packing_turns_from_inputs_to_outputs(way):
    """Two experts, 24 inputs, 40 outputs, each nibble where the formula puts it."""
    values = torch.randint(16, (2, 24, 40))
    by_input = torch.stack([pack(v.T.contiguous(), list(range(8))).T for v in values])
    by_output = torch.stack([pack(v, list(range(8))) for v in values])
    assert torch.equal(repack.pack_outputs(by_input.contiguous()), by_output)
    assert torch.equal(repack.pack_inputs(by_output), by_input)


def test_the_layout_follows_from_the_width():
    assert [repack.best_layout(words) for words in (1, 8, 12, 72)] == [NORMAL, FAST, NORMAL, FAST]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: repack.awq_to_kunlun(torch.zeros(2, 9, dtype=torch.int32), FAST), "multiple of 8"),
        (lambda: repack.awq_to_kunlun(torch.zeros(2, 8), NORMAL), "int32"),
        (lambda: repack.pack_outputs(torch.zeros(2, 9, dtype=torch.int32)), "9 columns"),
        (lambda: repack.pack_inputs(torch.zeros(9, 2, dtype=torch.int32)), "9 rows"),
    ],
)
def test_what_is_not_packed_so_is_refused(call, message):
    with pytest.raises(repack.RepackError, match=message):
        call()
