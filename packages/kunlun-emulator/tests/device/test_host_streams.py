# SPDX-License-Identifier: Apache-2.0
"""Streams and generators of host memory stand in while the runner runs, and leave no trace."""

import pytest
import torch

from vllm_kunlun.emulator.device import host_streams


def names() -> list[object]:
    return [
        torch.Event,
        torch.Generator,
        torch.cuda.Stream,
        torch.cuda.current_stream,
        torch.cuda.stream,
    ]


def test_a_copy_on_a_stream_of_its_own_as_vllms_runner_writes_it() -> None:
    before = names()
    with host_streams.in_place():
        stream, event = torch.cuda.Stream(), torch.Event()
        current = torch.cuda.current_stream()
        target = torch.zeros(3)
        with torch.cuda.stream(stream):
            stream.wait_stream(current)
            target.copy_(torch.ones(3), non_blocking=True)
            event.record()
        event.synchronize()
        assert event.query()
        assert target.tolist() == [1.0, 1.0, 1.0]
    assert names() == before


def test_torchs_own_come_back_after_a_failure() -> None:
    before = names()
    with pytest.raises(RuntimeError, match="broken"), host_streams.in_place():
        raise RuntimeError("broken")
    assert names() == before


def test_a_seeded_generator_goes_back_to_where_a_step_began() -> None:
    """As vLLM's runner takes a draw back: ``set_offset(get_offset() - 4)``."""
    with host_streams.in_place():
        generator = torch.Generator(device=torch.device("cpu"))
    generator.manual_seed(5)
    torch.empty(3).exponential_(generator=generator)
    generator.keep()
    drawn = [torch.empty(1000).uniform_(generator=generator) for _ in range(2)]
    generator.set_offset(generator.get_offset() - 4)
    again = [torch.empty(1000).uniform_(generator=generator) for _ in range(2)]
    assert all(map(torch.equal, drawn, again))
    assert not torch.equal(*drawn)


def test_a_generator_that_nothing_was_kept_of_says_so() -> None:
    with pytest.raises(RuntimeError, match="keep"):
        host_streams.HostGenerator().set_offset(-4)
