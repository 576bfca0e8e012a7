# SPDX-License-Identifier: Apache-2.0
"""Both forms of vLLM's table of kernels for packed weights, and its own choice among them."""

from __future__ import annotations

import pytest
from vllm.platforms import PlatformEnum

from vllm_kunlun.quantization.vllm_compat import linear_kernels
from vllm_kunlun.quantization.vllm_compat.linear_kernels import mixed_precision, scaled_mm


class Ours:
    pass


class Theirs:
    pass


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaled_mm, "_POSSIBLE_INT8_KERNELS", {})


def test_a_list_for_all_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "_POSSIBLE_KERNELS", [Theirs])
    for _ in range(2):
        linear_kernels.enter([Ours], [Ours])
        assert [Ours, Theirs] == mixed_precision._POSSIBLE_KERNELS
        assert {PlatformEnum.OOT: [Ours]} == scaled_mm._POSSIBLE_INT8_KERNELS


def test_a_list_for_each_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "_POSSIBLE_KERNELS", {PlatformEnum.CPU: [Theirs]})
    for _ in range(2):
        linear_kernels.enter([Ours], [Ours])
        assert {
            PlatformEnum.CPU: [Theirs],
            PlatformEnum.OOT: [Ours],
        } == mixed_precision._POSSIBLE_KERNELS
