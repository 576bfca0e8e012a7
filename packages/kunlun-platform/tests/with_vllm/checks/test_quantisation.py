# SPDX-License-Identifier: Apache-2.0
"""Methods of quantisation that are refused, and those that a wheel computes or converts."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from vllm.model_executor.layers import quantization

from vllm_kunlun.platforms.checks import quantisation
from vllm_kunlun.platforms.errors import MissingWheelError, UnsupportedError

KNOWN = set(get_args(quantization.QuantizationMethods))
"""To the installed vLLM, which refuses any other name itself."""

REFUSED = sorted(KNOWN & (quantisation.WITHOUT_ARITHMETIC | set(quantisation.OTHERS)))


def test_the_message_names_what_runs(build: Any) -> None:
    message = build.refusal(quantization="modelopt")
    for sentence in ("quantization='modelopt'", "int8", "AWQ"):
        assert sentence in message


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's registry, without the wheel that computes or converts some."""
    monkeypatch.setattr(quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {})


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("method", REFUSED)
def test_without_arithmetic_on_the_card(method: str) -> None:
    with pytest.raises(UnsupportedError, match=f"^quantization='{method}' ") as refused:
        quantisation.check(method)
    why, instead = str(refused.value).split(". ")
    assert why
    assert instead.startswith(("Use ", "Leave ", "Export "))


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("method", sorted(KNOWN & quantisation.CONVERTED))
def test_the_wheel_to_install_is_named(method: str) -> None:
    with pytest.raises(MissingWheelError, match=f"'{method}' .*pip install kunlun-quant"):
        quantisation.check(method)


def test_a_method_that_a_wheel_converts_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = type("Config", (), {"__module__": "vllm_kunlun.quantization.somewhere"})
    monkeypatch.setattr(
        quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {"fp8": ours, "awq": ours}
    )
    quantisation.check("fp8")
    quantisation.check("awq")
    with pytest.raises(UnsupportedError):
        quantisation.check("mxfp4")


def test_a_method_of_another_package_is_its_own() -> None:
    quantisation.check("registered-by-somebody")


OF_SOME_RELEASES = {
    "auto_awq",
    "auto_gptq",
    "bitblas",
    "bitsandbytes",
    "cpu_awq",
    "deepseek_v4_fp8",
    "fp8_per_block",
    "fp8_per_channel",
    "fp8_per_tensor",
    "gguf",
    "gpt_oss_mxfp4",
    "gptq_bitblas",
    "gptq_marlin_24",
    "humming",
    "int8_per_channel_weight_only",
    "ipex",
    "modelopt_mixed",
    "modelopt_mxfp8",
    "mxfp8",
    "nvfp4_per_token",
    "online",
    "petit_nvfp4",
    "ptpc_fp8",
}
"""Of vLLM's names those that not every release has."""


def test_every_name_of_vllms_is_in_one_table() -> None:
    """Each runs or is refused: a new one is a decision to take."""
    names = KNOWN | OF_SOME_RELEASES
    tables = [quantisation.WITHOUT_ARITHMETIC, quantisation.CONVERTED, set(quantisation.OTHERS)]
    assert set().union(*tables) == names
    assert sum(map(len, tables)) == len(names)
