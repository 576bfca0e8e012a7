# SPDX-License-Identifier: Apache-2.0
"""A generator of the device draws what one of the host draws from the same seed."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.rehearsal.generators import Generator


@pytest.mark.parametrize("device", [None, "cuda", "cuda:1", torch.device("cuda", 0), "cpu"])
def test_it_draws_as_torchs_on_the_host(device):
    ours = Generator(device=device).manual_seed(3)
    assert ours.device == torch.device("cpu")
    torchs = torch.Generator().manual_seed(3)
    assert torch.equal(torch.rand(5, generator=ours), torch.rand(5, generator=torchs))


def test_generators_that_torch_made_count_as_such():
    assert isinstance(torch.default_generator, Generator)
    assert isinstance(Generator(), torch.Generator)
    assert not isinstance(torch.empty(0), Generator)
