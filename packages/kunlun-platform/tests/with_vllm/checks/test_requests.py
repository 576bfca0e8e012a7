# SPDX-License-Identifier: Apache-2.0
"""Requests that are refused before they reach the scheduler."""

from __future__ import annotations

import pytest
from vllm import PoolingParams, SamplingParams
from vllm.exceptions import VLLMValidationError

from vllm_kunlun.platforms.checks import requests
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize("n", [1, 2, 128])
def test_an_ordinary_request_passes(n: int) -> None:
    requests.validate(SamplingParams(n=n, temperature=1.0))
    requests.validate(PoolingParams())


@pytest.mark.parametrize("n", [129, 100_000])
def test_an_absurd_number_of_samples_is_refused(n: int) -> None:
    ours, vllms = rf"^n={n}.*at most 128.*VLLM_KUNLUN_MAX_N", rf"^n must be at most \d+, got {n}\."
    with pytest.raises((ValueError, VLLMValidationError), match=f"{ours}|{vllms}"):
        requests.validate(SamplingParams(n=n, temperature=1.0))


def test_the_number_of_samples_is_the_servers_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_MAX_N", "4")
    requests.validate(SamplingParams(n=4, temperature=1.0))
    with pytest.raises(UnsupportedError, match="at most 4"):
        requests.validate(SamplingParams(n=5, temperature=1.0))
