# SPDX-License-Identifier: Apache-2.0
"""Blocks of captured graphs are taken over once nobody owns them."""

import pytest
import torch

from vllm_kunlun.emulator.rehearsal.faults import GraphMemoryReusedError
from vllm_kunlun.emulator.rehearsal.pool import Pool, without_owning


def test_a_block_is_taken_over_when_its_owner_is_gone():
    pool = Pool()
    one, kept = pool.take(torch.arange(8), "one")
    address = one.data_ptr()
    assert one.tolist() == list(range(8))
    two, _ = pool.take(torch.ones(8), "two")
    assert two.data_ptr() != address
    assert pool.kept() == {"one": 64, "two": 32}
    del one
    three, _ = pool.take(torch.zeros(6, dtype=torch.int64), "three")
    assert three.data_ptr() == address == kept.address
    assert pool.size == 96


def test_a_view_that_does_not_own_keeps_no_block():
    pool = Pool()
    owner, block = pool.take(torch.arange(8).view(2, 4).t(), "one")
    view = without_owning(owner[1:])
    del owner
    assert pool.kept() == {}
    assert view.tolist() == [[1, 5], [2, 6], [3, 7]]
    assert pool.block_of(view) is block


def test_memory_of_no_graph_has_no_block():
    pool = Pool()
    owner = pool.take(torch.ones(2), "one")
    assert owner
    assert pool.block_of(torch.ones(2)) is None


def test_a_block_goes_with_what_computes_into_it_and_what_owns_it():
    pool = Pool()
    one, block = pool.take(torch.ones(2), "one")
    del block
    assert (pool.size, one.tolist()) == (8, [1, 1])
    del one
    assert pool.size == 0


def test_a_tensor_met_first_in_a_view_is_of_the_graph_of_that_time():
    pool = Pool()
    owner, block = pool.take(torch.ones(2), "one")
    tensor = without_owning(owner)
    pool.meet(tensor)
    block.held_by = "two"
    pool.meet(tensor)
    with pytest.raises(GraphMemoryReusedError, match=r"one computed .* two has taken over"):
        pool.check_read(tensor)
