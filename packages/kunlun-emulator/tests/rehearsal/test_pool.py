# SPDX-License-Identifier: Apache-2.0
"""Blocks of captured graphs are taken over once nobody owns them."""

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import device_memory
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
    assert pool.size == 512 + 32


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


def test_free_neighbours_are_one_gap_and_what_is_left_of_a_gap_is_one():
    pool = Pool()
    wide, _ = pool.take(torch.zeros(4096, dtype=torch.uint8), "one")
    start = wide.data_ptr()
    del wide
    halves = [pool.take(torch.zeros(2048, dtype=torch.uint8), "two")[0] for _ in range(2)]
    assert [each.data_ptr() - start for each in halves] == [0, 2048]
    halves.clear()
    again, _ = pool.take(torch.zeros(4096, dtype=torch.uint8), "three")
    assert (again.data_ptr(), pool.size) == (start, 4096)


def test_memory_beside_what_is_owned_is_taken():
    pool = Pool()
    wide, _ = pool.take(torch.zeros(2048, dtype=torch.uint8), "one")
    start = wide.data_ptr()
    del wide
    small, _ = pool.take(torch.zeros(8, dtype=torch.uint8), "one")
    beside, _ = pool.take(torch.zeros(1024, dtype=torch.uint8), "one")
    assert [each.data_ptr() - start for each in (small, beside)] == [0, 512]
    assert pool.size == 2048


def test_a_part_that_was_taken_over_is_found_both_ways():
    pool = Pool()
    owner, whole = pool.take(torch.zeros(4096, dtype=torch.uint8), "one")
    view = without_owning(owner)
    pool.check_read(view)
    del owner
    part, _ = pool.take(torch.ones(8, dtype=torch.uint8), "two")
    pool.check_read(part)
    with pytest.raises(GraphMemoryReusedError, match=r"one computed .* two has taken over"):
        pool.check_read(view)
    whole.held_by = "one"  # its graph is replayed
    pool.check_read(view)
    with pytest.raises(GraphMemoryReusedError, match=r"two computed .* one has taken over"):
        pool.check_read(part)


def test_the_device_counts_the_pool_once():
    before = device_memory.allocated()
    pool = Pool()
    owners = [pool.take(torch.ones(600), "one")[0] for _ in range(3)]
    views = [without_owning(each) for each in owners]
    assert device_memory.allocated() - before == pool.size
    assert views
    del owners, views
    assert device_memory.allocated() == before
