# SPDX-License-Identifier: Apache-2.0
"""Blocks of captured graphs are taken over once nobody owns them."""

import torch

from vllm_kunlun.emulator.rehearsal.pool import Pool, without_owning


def test_a_block_is_taken_over_when_its_owner_is_gone():
    pool = Pool()
    one, _ = pool.take(torch.arange(8), "one")
    address = one.data_ptr()
    assert one.tolist() == list(range(8))
    two, _ = pool.take(torch.ones(8), "two")
    assert two.data_ptr() != address
    assert pool.kept() == {"one": 64, "two": 32}
    del one
    three, _ = pool.take(torch.zeros(6, dtype=torch.int64), "three")
    assert three.data_ptr() == address
    assert pool.size == 96


def test_a_view_that_does_not_own_keeps_no_block():
    pool = Pool()
    view = without_owning(pool.take(torch.arange(8).view(2, 4).t(), "one")[0][1:])
    assert pool.kept() == {}
    assert view.tolist() == [[1, 5], [2, 6], [3, 7]]
    assert pool.block_of(view) is not None


def test_memory_of_no_graph_has_no_block():
    pool = Pool()
    pool.take(torch.ones(2), "one")
    assert pool.block_of(torch.ones(2)) is None


def test_a_cleared_pool_is_a_new_one():
    pool = Pool()
    one, _ = pool.take(torch.ones(2), "one")
    pool.clear()
    assert (pool.size, pool.kept(), pool.block_of(one)) == (0, {}, None)
