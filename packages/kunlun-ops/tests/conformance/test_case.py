# SPDX-License-Identifier: Apache-2.0
"""No vendor function knows float64 or complex numbers: each tensor of a call, made one, is refused.

Planted in every tensor argument of every live function, so that no function goes without checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.ops.conformance.case import Inputs
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.vendor_ops.library import function

FUNCTIONS = sorted({case.function for case in CASES})


def spoilt(value: Any) -> Iterator[Any]:
    """``value`` with each of its tensors in turn in float64."""
    if isinstance(value, Tensor):
        yield value.double()
    elif isinstance(value, (list, tuple)):
        for at, each in enumerate(value):
            if isinstance(each, Tensor):
                yield type(value)([*value[:at], each.double(), *value[at + 1 :]])


@pytest.mark.parametrize("target", FUNCTIONS)
def test_float64_is_refused_in_every_tensor(target: str) -> None:
    cases = [case for case in CASES if case.function == target]
    tried, accepted = set(), []
    for case in cases:
        call = case.build(Inputs(0, case.dtypes[0]))
        places: dict[Any, Any] = {**dict(enumerate(call.args)), **call.kwargs}
        for place in places.keys() - tried:
            for changed in spoilt(places[place]):
                tried.add(place)
                arguments = {**places, place: changed}
                positional = [arguments[n] for n in range(len(call.args))]
                keywords = {name: arguments[name] for name in call.kwargs}
                try:
                    function(*target.split("."))(*positional, **keywords)
                except VendorContractError as error:
                    assert error.function in (target, target.split(".")[1])
                else:
                    accepted.append(place)
    assert tried, f"no case of {target} passes a tensor"
    assert not accepted, f"{target} takes float64 for {accepted}"
