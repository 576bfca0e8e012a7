# SPDX-License-Identifier: Apache-2.0
"""The vendor's functions get host tensors as ``*_cpu`` and the device's as all else."""

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import places
from vllm_kunlun.emulator.rehearsal.faults import ReadBeforeWaitError, WrongMemoryError
from vllm_kunlun.emulator.rehearsal.vendor import Watched
from vllm_kunlun.ops import vendor_ops

pytestmark = pytest.mark.usefixtures("rehearsal")


class surface:
    """A library of one function."""

    @staticmethod
    def attend(q, lengths_cpu, lengths_xpu):
        return q + lengths_cpu.sum()


@pytest.fixture
def attend():
    return Watched(surface).attend


def on(*places_):
    return [torch.ones(2, dtype=torch.int32, device=each) for each in places_]


def test_tensors_in_their_places_are_taken(attend, asked):
    arguments = on("cuda", "cpu", "cuda")
    asked()
    result = attend(*arguments)
    assert (places.is_on_device(result), result.tolist()) == (True, [3, 3])
    assert ("vendor", "surface.attend") in asked()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("cpu", "cpu", "cuda"), "reads q on the device, and got a tensor of the host"),
        (("cuda", "cuda", "cuda"), "reads lengths_cpu on the host, and got a tensor of the dev"),
        (("cuda", "cpu", "cpu"), "reads lengths_xpu on the device, and got a tensor of the host"),
    ],
)
def test_a_tensor_in_the_wrong_memory_is_caught(attend, where, message):
    with pytest.raises(WrongMemoryError, match=message):
        attend(*on(*where))


def test_a_pair_is_one_tensor_of_each_memory():
    class library:
        @staticmethod
        def score(q, context_lens):
            return q

    score = Watched(library).score
    q, host, device = on("cuda", "cpu", "cuda")
    score(q, [host, device])
    with pytest.raises(WrongMemoryError, match="reads context_lens_cpu on the host"):
        score(q, [device, host])


def test_a_length_that_is_still_on_its_way_is_caught(attend):
    q, lengths, on_device = on("cuda", "cpu", "cuda")
    lengths = lengths.pin_memory()
    lengths.copy_(on_device, non_blocking=True)
    with pytest.raises(ReadBeforeWaitError):
        attend(q, lengths, on_device)
    torch.cuda.synchronize()
    attend(q, lengths, on_device)


def test_the_adapter_meets_the_checks():
    x, weight = torch.ones(2, 8, device="cuda"), torch.ones(8)
    with pytest.raises(WrongMemoryError, match=r"kunlun_ops\.rmsnorm reads weight on the device"):
        vendor_ops.rmsnorm(x, weight, torch.empty_like(x), 1e-6)
