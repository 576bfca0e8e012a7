# SPDX-License-Identifier: Apache-2.0
"""Which keys the judge's indexer chooses; the whole model is judged in ``tests/user``."""

from __future__ import annotations

import torch

from vllm_kunlun.cli.verify.own_class.indexer import choose_keys


def test_the_best_earlier_keys_are_chosen():
    """With one head of one number, ``I`` is ``relu(q k)``; query and key are 1 to 127: no loss."""
    key = torch.tensor([[3.0], [127.0], [5.0], [100.0]])
    query, weights = torch.ones(4, 1, 1), torch.ones(4, 1)
    chosen = choose_keys(query, key, weights, 2)
    # A row's own scale makes every key of one number the same: so two numbers are needed.
    assert chosen.shape == (4, 2)
    key = torch.stack([key[:, 0], torch.full((4,), 127.0)], 1)
    query = torch.tensor([[[1.0, 0.0]]]).expand(4, 1, 2)
    chosen = choose_keys(query, key, weights, 2)
    assert [set(row) for row in chosen.tolist()] == [{0, -1}, {0, 1}, {1, 2}, {1, 3}]
    assert chosen.dtype == torch.int32


def test_a_negative_product_counts_as_nothing_and_a_negative_weight_against_a_key():
    key = torch.tensor([[-127.0, 127.0], [64.0, 127.0], [127.0, 127.0]])
    query = torch.tensor([[[1.0, 0.0]]]).expand(3, 1, 2)
    chosen = choose_keys(query, key, -torch.ones(3, 1), 1)
    assert chosen[2].tolist() == [0]


def test_fewer_keys_than_may_be_chosen():
    rows = torch.ones(2, 1, 2)
    assert choose_keys(rows, rows[:, 0], torch.ones(2, 1), 3).tolist()[0] == [0, -1, -1]
