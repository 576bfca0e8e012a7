# SPDX-License-Identifier: Apache-2.0
"""Numbers of a request: finite, within bounds, of 64 bits."""

from __future__ import annotations

import re
from typing import Any

import pytest
from vllm import PoolingParams, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams

from vllm_kunlun.platforms.checks import numbers
from vllm_kunlun.platforms.errors import UnsupportedError

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("field", ["temperature", "repetition_penalty"])
@pytest.mark.parametrize("value", [NAN, INFINITY, 1e39])
def test_a_float_that_is_no_number_is_refused_by_name(field: str, value: float) -> None:
    """By whichever looks first: 0.33 does as the parameters are made, in words of its own."""
    said = rf"^{field}(=.*expected| must be .*got {re.escape(str(value))}\.)"
    with pytest.raises((ValueError, VLLMValidationError), match=said):
        numbers.check(SamplingParams(**{field: value}))


def test_a_tiny_penalty_is_refused_with_its_bounds() -> None:
    with pytest.raises(UnsupportedError, match=r"repetition_penalty=1e-40.*0\.001 to 1000"):
        numbers.check(SamplingParams(repetition_penalty=1e-40))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_bias", {3: NAN}),
        ("logit_bias", {3: -INFINITY}),
        ("stop_token_ids", [2**63]),
        ("extra_args", {"a": {"b": [1, 2**70]}}),
        ("extra_args", {"a": INFINITY}),
        ("top_k", 2**64),
        ("structured_outputs", StructuredOutputsParams(json={"maximum": -(2**64)})),
    ],
)
def test_numbers_within_a_field_are_checked_too(field: str, value: Any) -> None:
    with pytest.raises((ValueError, VLLMValidationError), match=rf"^{field}(=| integers must be )"):
        numbers.check(SamplingParams(**{field: value}))


def test_ordinary_parameters_pass() -> None:
    numbers.check(SamplingParams())
    numbers.check(PoolingParams())
    numbers.check(
        SamplingParams(
            temperature=0.7, top_p=0.9, top_k=50, min_p=0.1, repetition_penalty=1.1, seed=2**62,
            logit_bias={1: -100.0}, stop_token_ids=[1], extra_args={"a": True},
        )
    )  # fmt: skip


@pytest.mark.parametrize("number", [-(2**63), 2**63 - 1])
def test_the_ends_of_64_bits_pass(number: int) -> None:
    numbers.check_integer("priority", number)


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**63])
def test_more_than_64_bits_is_refused(number: int) -> None:
    with pytest.raises(UnsupportedError, match=r"priority=.*64 bits"):
        numbers.check_integer("priority", number)
