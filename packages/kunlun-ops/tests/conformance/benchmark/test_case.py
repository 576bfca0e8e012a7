# SPDX-License-Identifier: Apache-2.0
"""Inputs of a benchmark: of the model's dtype unless told otherwise, and on the device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.benchmark.case import Maker

MAKES: dict[str, tuple[Callable[[Maker], Tensor], tuple[int, ...], torch.dtype]] = {
    "normal": (lambda make: make.normal(2, 3), (2, 3), torch.float16),
    "normal of a dtype": (lambda make: make.normal(4, dtype=torch.int8), (4,), torch.int8),
    "uniform": (lambda make: make.uniform(5), (5,), torch.float32),
    "integers": (
        lambda make: make.integers(1, 3, 2, 2, dtype=torch.int64), (2, 2), torch.int64
    ),
    "empty": (lambda make: make.empty(0, 3), (0, 3), torch.float16),
    "empty of a dtype": (lambda make: make.empty(2, dtype=torch.int32), (2,), torch.int32),
    "tensor": (lambda make: make.tensor([[1, 2]], torch.int32), (1, 2), torch.int32),
    "copies": (lambda make: make.copies([1, 2])[1], (2,), torch.int32),
}  # fmt: skip
"""What is made -> how, and the shape and the dtype that it must have."""


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", MAKES)
def test_shape_dtype_and_device(name: str, device: str) -> None:
    make, shape, dtype = MAKES[name]
    made = make(Maker(torch.float16, device))
    assert (tuple(made.shape), made.dtype, made.device.type) == (shape, dtype, device)


def test_values_are_in_their_range() -> None:
    make = Maker(torch.float32, "cpu")
    normal, uniform = make.normal(2000), make.uniform(2000)
    assert abs(float(normal.mean())) < 0.2
    assert float(normal.std()) == pytest.approx(1.0, abs=0.2)
    assert 0 <= float(uniform.min()) < 0.1
    assert 0.9 < float(uniform.max()) < 1
    integers = make.integers(-1, 2, 200, dtype=torch.int32)
    assert set(integers.tolist()) == {-1, 0, 1}
    assert make.tensor([[1, 2]], torch.int32).tolist() == [[1, 2]]


def test_copies_share_no_memory() -> None:
    host, device = Maker(torch.float16, "cpu").copies([3, 1, 2])
    assert host.tolist() == device.tolist() == [3, 1, 2]
    assert host.dtype == torch.int32
    device.zero_()
    assert host.tolist() == [3, 1, 2]
    assert Maker(torch.float16, "meta").copies([1])[0].device.type == "cpu"
