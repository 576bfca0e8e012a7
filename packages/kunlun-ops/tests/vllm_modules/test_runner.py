# SPDX-License-Identifier: Apache-2.0
"""What the runner does for recurrent states: block tables with a host copy, states copied on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from vllm.model_executor.layers.mamba.mamba_utils import (
    get_conv_copy_spec,
    get_temporal_copy_spec,
)

from vllm_kunlun.ops.vllm_modules import runner

BLOCKS, CONV, STATE = 6, (4, 2), (3,)


def test_the_block_table_brings_its_host_copy() -> None:
    """Both are cut to the requests of the step."""
    pair = SimpleNamespace(gpu=torch.arange(12).view(4, 3), cpu=torch.arange(12, 24).view(4, 3))
    table = runner.get_device_tensor(SimpleNamespace(block_table=pair), 2)  # type: ignore[arg-type]
    assert table.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert table.host_copy.tolist() == [[12, 13, 14], [15, 16, 17]]  # type: ignore[attr-defined]
    assert table.data_ptr() == pair.gpu.data_ptr(), "a view, which a captured graph can read"


class Pools:
    """Two layers whose pages hold both of their states, the second pool behind the first.

    ``bound``: as 0.33 gives them to a layer, and calls what copies.
    """

    def __init__(self, before: int, bound: bool) -> None:
        self.bound = bound
        row = 8 + 3 + 1  # a number that belongs to none
        self.memory = torch.arange(2.0 * BLOCKS * row + before)
        self.layers: dict[str, Any] = {}
        for number in range(2):
            first = before + number * BLOCKS * row
            pages = self.memory[first : first + BLOCKS * row].view(BLOCKS, row)
            states = [pages[:, :8].unflatten(1, CONV), pages[:, 8:11].unflatten(1, STATE)]
            self.layers[f"layer.{number}"] = SimpleNamespace(
                kv_cache=tuple(states) if bound else [states], mamba_type="delta"
            )

    def copy(self, source: int, target: int, bias: int) -> int:
        """Of a request that owns blocks 4, 1, 5 and 2, in the second of two cache groups.

        Returns how many copies were made.
        """
        groups = [SimpleNamespace(layer_names=[]), SimpleNamespace(layer_names=list(self.layers))]
        functions = (get_conv_copy_spec, get_temporal_copy_spec)
        where: tuple[Any, ...] = (
            [1],
            source,
            target,
            bias,
            SimpleNamespace(block_ids=[[0, 0, 0, 0], [4, 1, 5, 2]]),
            self.layers,
        )
        config: Any = SimpleNamespace(kv_cache_groups=groups)
        if self.bound:
            buffers: Any = SimpleNamespace()
            runner.note_state_copies(buffers, config, {"delta": functions}, *where)
            noted = len(vars(buffers)[runner._NOTED])
            runner.copy_states(buffers)
            assert not vars(buffers), "what was copied is forgotten"
            runner.copy_states(buffers)
            return noted
        sources: list[Tensor] = []
        targets: list[Tensor] = []
        counts: list[int] = []
        runner.collect_mamba_copy_meta(sources, targets, counts, config, functions, *where)
        assert counts == [each.numel() for each in sources] == [each.numel() for each in targets]
        runner.do_mamba_copy_block(sources, targets, counts)
        return len(sources)


@pytest.mark.parametrize("bound", [False, True], ids=["0.15", "0.33"])
@pytest.mark.parametrize("before", [0, 7], ids=["at the start", "behind other memory"])
@pytest.mark.parametrize("bias", [0, 1, 2])
def test_a_state_goes_on_in_another_block(bias: int, before: int, bound: bool) -> None:
    """``bias`` drafts stayed: the convolution's past begins so many rows later, and the delta
    rule's state is that of so many blocks later.
    """
    pools = Pools(before, bound)
    kept = pools.memory.clone()
    assert pools.copy(0, 3, bias) == 4
    row = 12
    for number in range(2):
        pages, old = (
            memory[before + number * BLOCKS * row :][: BLOCKS * row].view(BLOCKS, row)
            for memory in (pools.memory, kept)
        )
        left = 8 - 2 * bias
        assert torch.equal(pages[2, :left], old[4, 2 * bias : 8])
        assert torch.equal(pages[2, left:8], old[2, left:8]), "what lies behind the past stays"
        assert torch.equal(pages[2, 8:11], old[[4, 1, 5][bias], 8:11])
        pages[2] = old[2]
    assert torch.equal(pools.memory, kept), "another block was written"


@pytest.mark.parametrize("bound", [False, True], ids=["0.15", "0.33"])
def test_nothing_is_copied_where_the_state_stays(bound: bool) -> None:
    pools = Pools(0, bound)
    kept = pools.memory.clone()
    assert pools.copy(1, 1, 0) == 0
    assert torch.equal(pools.memory, kept)


@pytest.mark.parametrize("bound", [False, True], ids=["0.15", "0.33"])
def test_drafts_that_stayed_are_copied_within_a_block(bound: bool) -> None:
    """The same block, one draft later: the convolution's past moves up by a row."""
    pools = Pools(0, bound)
    kept = pools.memory.clone()
    pools.copy(0, 0, 1)
    page, old = (memory[4 * 12 : 5 * 12] for memory in (pools.memory, kept))
    assert torch.equal(page[:6], old[2:8])
    assert torch.equal(page[8:11], kept[1 * 12 + 8 : 1 * 12 + 11])
