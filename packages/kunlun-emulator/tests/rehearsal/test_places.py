# SPDX-License-Identifier: Apache-2.0
"""A memory is the host's or the device's, and all its views with it."""

import torch

from vllm_kunlun.emulator.rehearsal import places


def test_views_lie_where_their_memory_lies():
    x = places.put_on_device(torch.zeros(4, 4))
    views = (x[1:], x.t(), x.view(-1), x.detach(), torch.nn.Parameter(x).data)
    assert all(places.is_on_device(each) for each in views)
    assert not places.is_on_device(x.clone())


def test_memory_can_be_given_back_to_the_host():
    x = places.put_on_device(torch.zeros(4))
    places.put_on_host(x[1:])
    assert not places.is_on_device(x)


def test_pinned_memory_is_the_hosts():
    x = places.pin(torch.zeros(4))
    assert (places.is_pinned(x[1:]), places.is_on_device(x)) == (True, False)


def test_tensors_are_found_in_nested_values():
    a, b = torch.zeros(1), torch.ones(1)
    assert list(places.tensors([a, (1, {"k": b}), None], "text")) == [a, b]


def test_a_tensor_that_vmap_has_wrapped_lies_where_it_lay():
    seen = []
    torch.vmap(lambda x: (seen.append(places.is_on_device(x)), x + 1)[1])(
        places.put_on_device(torch.zeros(2, 3))
    )
    assert seen == [True]


def test_each_tensor_in_results_is_put_on_the_device():
    a, b = torch.zeros(1), torch.zeros(2)
    results = places.results_on_device((a, [b, 3], None))
    assert results == (a, [b, 3], None)
    assert places.is_on_device(a)
    assert places.is_on_device(b)
