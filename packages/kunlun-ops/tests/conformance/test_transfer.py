# SPDX-License-Identifier: Apache-2.0
"""What a case built on the host is on the device."""

import torch

from vllm_kunlun.ops.conformance.case import Call, Inputs
from vllm_kunlun.ops.conformance.transfer import on_device


def test_strides_and_shared_memory_are_kept() -> None:
    cache = torch.arange(48.0).view(3, 2, 8)
    keys, values = cache.unbind(1)
    sent = on_device(Call((keys, values, keys), {"column": cache[:, :, 1:2]}), "cpu")
    first, second, third = sent.args
    assert first is third and first is not keys
    assert first.stride() == keys.stride() and not first.is_contiguous()
    assert torch.equal(second, values) and torch.equal(sent.kwargs["column"], cache[:, :, 1:2])
    second[1] = -1.0
    assert sent.kwargs["column"][1, 1, 0] == -1.0
    assert cache.min() == 0.0, "the host's tensors stay as they were"


def test_the_host_half_of_two_copies_stays() -> None:
    inputs = Inputs(0, torch.float32)
    lengths, none = inputs.copies([3, 4]), inputs.copies([])
    sent = on_device(Call((lengths, none), {}), "cpu", stay=inputs.host)
    (host, device), (no_host, no_device) = sent.args
    assert host is lengths[0] and no_host is none[0]
    assert device is not lengths[1] and no_device is not none[1]
    assert torch.equal(host, device)


def test_a_device_that_is_not_the_host() -> None:
    inputs = Inputs(0, torch.float32)
    pair = inputs.copies([1])
    sent = on_device(Call((pair, inputs.normal(2, 3).T)), "meta", stay=inputs.host)
    (host, device), x = sent.args
    assert host.device.type == "cpu"
    assert device.device.type == x.device.type == "meta"
    assert x.shape == (3, 2) and x.stride() == (1, 3)
