# SPDX-License-Identifier: Apache-2.0
"""Blocks go to the host and come back, where a block of the host is several of the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

mediums = pytest.importorskip("vllm.v1.kv_offload.mediums", reason="refused by name with 0.33")

from vllm_kunlun.ops.kv_transfer.offloading import PageCopies  # noqa: E402
from vllm_kunlun.ops.vllm_compat.transfer_result import succeeded  # noqa: E402

PAGES_OF_DEVICE, PAGES_OF_HOST = 2, 4
SHAPE = (3, 5)


@pytest.fixture
def layers() -> dict[str, list[torch.Tensor]]:
    return {
        "device": [torch.randn(12, *SHAPE) for _ in range(2)],
        "host": [torch.zeros(8, *SHAPE) for _ in range(2)],
    }


def blocks(kind: Any, *numbers: int) -> Any:
    return kind(np.array(numbers, dtype=np.int64))


def test_to_the_host_and_back(layers: dict[str, list[torch.Tensor]]) -> None:
    device, host = layers["device"], layers["host"]
    before = [layer.clone() for layer in device]
    out = PageCopies(device, host, PAGES_OF_DEVICE, PAGES_OF_HOST)
    back = PageCopies(host, device, PAGES_OF_HOST, PAGES_OF_DEVICE)
    spec = blocks(mediums.GPULoadStoreSpec, 4, 1), blocks(mediums.CPULoadStoreSpec, 1)
    assert out.transfer_async(7, spec)
    out.wait({7})
    assert out.get_finished() == [succeeded(7)]
    assert out.get_finished() == []
    for layer, kept in zip(before, host, strict=True):
        assert torch.equal(kept[4:], torch.cat([layer[8:10], layer[2:4]]))
        assert not kept[:4].any()
    # The first of the two is on the device already: the load begins in the block's midst.
    assert back.transfer_async(
        8, (blocks(mediums.CPULoadStoreSpec, 1), blocks(mediums.GPULoadStoreSpec, 0))
    )
    assert back.get_finished() == [succeeded(8)]
    for layer, came in zip(before, device, strict=True):
        assert torch.equal(came[:2], layer[2:4])
        assert torch.equal(came[2:], layer[2:])


def test_keys_and_values_are_two_parts_of_one_page() -> None:
    """Written through a view of the cache, whose first dimension is keys and values."""
    cache = torch.zeros(2, 4, 3)
    kept = [torch.randn(4, 2, 3)]
    back = PageCopies(kept, [cache.transpose(0, 1)], 1, 1)
    back.transfer_async(
        1, (blocks(mediums.CPULoadStoreSpec, 3), blocks(mediums.GPULoadStoreSpec, 2))
    )
    back.get_finished()
    assert torch.equal(cache[:, 2], kept[0][3])
