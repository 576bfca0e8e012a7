# SPDX-License-Identifier: Apache-2.0
"""A difference with a pattern is named; one without is not."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.cli.verify.patterns import pattern

HEADS, SIZE = 4, 8


@pytest.fixture
def matrix():
    return torch.randn(13, HEADS * SIZE, generator=torch.Generator().manual_seed(0))


def heads(matrix, order):
    return matrix.view(-1, HEADS, SIZE)[:, order].reshape(matrix.shape)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x * 127, "is 127 times what it should be"),
        (lambda x: x / 127, "is 0.007874 times what it should be"),
        (lambda x: -x, "is -1 times what it should be"),
        (torch.zeros_like, "is all zeros"),
        (lambda x: x / 0, "is not a number in places"),
        (lambda x: x + torch.arange(32.0), "is off by the same in each row"),
        (lambda x: heads(x, [3, 0, 1, 2]), "has each head 1 from its place, of 4"),
        (lambda x: heads(x, [2, 3, 0, 1]), "has each head 2 from its place, of 4"),
        (lambda x: heads(x, [0, 2, 1, 3]), "in another order: head 2 stands in place 1"),
        (lambda x: x.roll(5, 1), "has each row 5 from its place, of 32"),
        (lambda x: x.flip(0) * 2 + 1, None),
    ],
)
def test_a_pattern_is_named(matrix, change, said):
    found = pattern(change(matrix), matrix, 1e-4, blocks={"head": SIZE, "row": 1})
    assert found == said if said is None else said in found


def test_another_matrix_is_named_before_anything_else(matrix):
    other = matrix.flip(0)
    assert pattern(other, matrix, 1e-4, others={"up": other}) == "is up's"
    assert pattern(other, matrix, 1e-4, others={"up": other[:, :4]}) is None


def test_what_is_within_the_tolerance_counts_as_equal(matrix):
    noise = 0.005 * torch.randn(matrix.shape, generator=torch.Generator().manual_seed(1))
    assert pattern(3 * matrix + noise, matrix, 1e-2) == pattern(3 * matrix, matrix, 1e-2) or (
        "2.99" in pattern(3 * matrix + noise, matrix, 1e-2)
    )
    assert pattern(3 * matrix + noise, matrix, 1e-4) is None
