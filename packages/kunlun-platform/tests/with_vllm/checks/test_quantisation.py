# SPDX-License-Identifier: Apache-2.0
"""Methods of quantisation that are refused, and those that a wheel converts."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.model_executor.layers import quantization

from vllm_kunlun.platforms.checks import quantisation
from vllm_kunlun.platforms.errors import UnsupportedError


def test_the_message_names_what_runs(build: Any) -> None:
    message = build.refusal(quantization="fp8")
    for sentence in ("quantization='fp8'", "int8", "AWQ"):
        assert sentence in message


@pytest.mark.parametrize("method", [*sorted(quantisation.WITHOUT_ARITHMETIC), "bitsandbytes"])
def test_without_arithmetic_on_the_card(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel that converts some of them as they are loaded."""
    monkeypatch.setattr(quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {})
    with pytest.raises(UnsupportedError, match=f"quantization='{method}'"):
        quantisation.check(method)


def test_a_method_that_a_wheel_converts_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = type("Config", (), {"__module__": "vllm_kunlun.quantization.somewhere"})
    monkeypatch.setattr(quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {"fp8": ours})
    quantisation.check("fp8")
    with pytest.raises(UnsupportedError):
        quantisation.check("mxfp4")


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors", "gguf"])
def test_methods_that_run(method: str) -> None:
    quantisation.check(method)


def test_every_method_of_vllms_in_fp8_or_fp4_is_in_the_table() -> None:
    """Those that its name tells of; what a wheel converts stays in the table."""
    told = {name for name in quantization.QUANTIZATION_METHODS if "fp8" in name or "fp4" in name}
    assert told <= quantisation.WITHOUT_ARITHMETIC
