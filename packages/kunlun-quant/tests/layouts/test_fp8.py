# SPDX-License-Identifier: Apache-2.0
"""Decoding against torch's own dtypes and a table written out; conversion against float64."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor

from vllm_kunlun.quantization.layouts import int8
from vllm_kunlun.quantization.layouts.fp8 import decode_e4m3, expand_blocks, to_float, to_int8


def fp8(rows: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return (torch.randn(rows, width, generator=generator) * 20).to(torch.float8_e4m3fn)


def test_every_e4m3_number():
    bits = torch.arange(256, dtype=torch.uint8)
    came = decode_e4m3(bits.view(torch.int8))
    torch.testing.assert_close(came, bits.view(torch.float8_e4m3fn).float(), equal_nan=True,
                               rtol=0, atol=0)  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (300, 260), (256, 128)])
@pytest.mark.parametrize("block", [None, (128, 128), (64, 32)])
def test_int8_is_within_half_a_step_of_the_value(shape, block):
    rows, width = shape
    weight = fp8(rows, width)
    generator = torch.Generator().manual_seed(1)
    counts = (rows, 1) if block is None else (-(-rows // block[0]), -(-width // block[1]))
    scale = torch.rand(counts, generator=generator) + 0.01
    exact = torch.empty(rows, width, dtype=torch.float64)
    for row in range(rows):
        for column in range(width):
            at = (row, 0) if block is None else (row // block[0], column // block[1])
            exact[row, column] = weight[row, column].double() * scale[at].double()
    as_float = to_float(weight.view(torch.int8), scale, block, torch.float32)
    torch.testing.assert_close(as_float.double(), exact, rtol=1e-6, atol=0)
    bits = weight.view(torch.int8).clone()
    largest = to_int8(bits, scale, block)
    torch.testing.assert_close(largest.double(), exact.abs().amax(1, keepdim=True))
    step = largest.double() / 127
    assert ((bits.double() * step - exact).abs() <= 0.501 * step).all()


def test_conversion_in_pieces_is_the_same(monkeypatch):
    whole = fp8(64, 48).view(torch.int8)
    pieces = whole.clone()
    scale = torch.ones(64, 1)
    largest = to_int8(whole, scale, None)
    monkeypatch.setattr(int8.quantise_rows, "__defaults__", (100,))
    assert torch.equal(to_int8(pieces, scale, None), largest)
    assert torch.equal(pieces, whole)


def test_a_row_of_zeros_and_a_nan():
    bits = torch.tensor([[0, 0], [127, 56]], dtype=torch.int8)
    largest = to_int8(bits, torch.ones(2, 1), None)
    assert bits[0].tolist() == [0, 0]
    assert largest[0] == 0
    assert torch.isnan(largest[1])


def test_blocks_that_do_not_fill_the_last_row_and_column():
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert expand_blocks(scale, (2, 3), slice(1, 3), 4).tolist() == [[1, 1, 1, 2], [3, 3, 3, 4]]


def test_conversion_needs_little_memory_beside_the_weight():
    """Measured in a process of its own: the peak over what a weight of 128 MiB takes."""
    program = """
        import resource, torch
        from vllm_kunlun.quantization.layouts import fp8
        bits = torch.full((2**13, 2**14), 56, dtype=torch.int8)
        scale = torch.ones(2**6, 2**7)
        fp8.to_int8(bits[:256], scale, (128, 128))
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        before = peak()
        fp8.to_int8(bits, scale, (128, 128))
        print((peak() - before) / bits.nbytes)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, check=True, timeout=300,
        env={**os.environ, "VLLM_KUNLUN_DEVICE": "emulated"},
    )  # fmt: skip
    assert float(done.stdout.split()[-1]) < 0.2
