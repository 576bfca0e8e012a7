# SPDX-License-Identifier: Apache-2.0
"""Memory that layers share: the next call may have the same."""

from __future__ import annotations

import torch

from vllm_kunlun.mla import workspace


def test_shapes_dtypes_and_sharing():
    wanted = ((3, 5), torch.int8), ((7,), torch.float32)
    first, second = workspace.take(*wanted)
    assert (tuple(first.shape), first.dtype) == wanted[0]
    assert (tuple(second.shape), second.dtype) == wanted[1]
    first.fill_(1)
    second.fill_(2)
    assert (first == 1).all()  # the two do not overlap
    assert workspace.take(*wanted)[0].data_ptr() == first.data_ptr()
