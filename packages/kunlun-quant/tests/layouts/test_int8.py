# SPDX-License-Identifier: Apache-2.0
"""Rows of int8 by hand, in whole and in pieces."""

from __future__ import annotations

import torch

from vllm_kunlun.quantization.layouts.int8 import MAX_OF_SCALE, pieces, quantise_rows


def test_by_hand():
    values = torch.tensor([[127.0, -63.4, 0.5], [0.0, 0.0, 0.0], [torch.nan, 1.0, 2.0]])
    out = torch.full((3, 3), 9, dtype=torch.int8)
    largest = quantise_rows(lambda rows: values[rows].clone(), out)
    assert out[:2].tolist() == [[127, -63, 0], [0, 0, 0]]
    assert largest[:2].tolist() == [[127.0], [0.0]]
    assert largest[2].isnan()
    assert MAX_OF_SCALE == 127


def test_pieces_cover_each_row_once_and_hold_at_most_their_size():
    matrix = torch.empty(10, 7)
    parts = list(pieces(matrix, 21))
    assert [(part.start, part.stop) for part in parts] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert len(list(pieces(matrix, 1))) == 10  # a row at least


def test_a_row_in_pieces_is_the_same():
    values = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    whole, parts = torch.empty(2, 9, 5, dtype=torch.int8)
    first = quantise_rows(lambda rows: values[rows].clone(), whole)
    assert torch.equal(quantise_rows(lambda rows: values[rows].clone(), parts, 11), first)
    assert torch.equal(parts, whole)
