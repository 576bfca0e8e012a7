# SPDX-License-Identifier: Apache-2.0
"""A configuration of quantisation that lies beside config.json."""

from __future__ import annotations

import json
from typing import Any

import pytest
from vllm.config import VllmConfig

from vllm_kunlun.platforms.checks import quantisation as checks
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.settings import quantisation

GPTQ = {"bits": 4, "group_size": 32, "desc_act": False, "sym": True}
AWQ = {"w_bit": 4, "q_group_size": 32, "zero_point": True, "version": "GEMM"}


@pytest.fixture
def told(build: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``told(file, content)``: the configuration of a model with that file beside config.json."""
    monkeypatch.setattr(checks, "_is_converted", lambda method: True)
    monkeypatch.setattr(
        VllmConfig, "get_quantization_config", staticmethod(lambda model, load: model.quantization)
    )

    def make(file: str, content: bytes) -> Any:
        config = build()
        assert config.quant_config is None
        (build.folder / file).write_bytes(content)
        quantisation.update(config)
        return config

    return make


@pytest.mark.parametrize(
    ("file", "content", "method"),
    [
        ("quantize_config.json", GPTQ, "gptq"),
        ("quantize_config.json", {**AWQ, "quant_method": "awq"}, "awq"),
        ("quant_config.json", AWQ, "awq"),
    ],
)
def test_it_is_taken_over(file: str, content: dict[str, Any], method: str, told: Any) -> None:
    config = told(file, json.dumps(content).encode())
    assert config.model_config.quantization == config.quant_config == method
    assert config.model_config.hf_config.quantization_config == {**content, "quant_method": method}


@pytest.mark.parametrize("content", [[], {}, {"something": "else"}])
def test_a_file_about_something_else_says_nothing(content: Any, told: Any) -> None:
    config = told("quantize_config.json", json.dumps(content).encode())
    assert config.model_config.quantization is None
    assert config.quant_config is None


def test_a_damaged_file_is_named(told: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"quantize_config\.json is not JSON"):
        told("quantize_config.json", b"{")


def test_what_was_named_is_left_alone(told: Any, build: Any) -> None:
    config = build()
    config.model_config.quantization = "fp8"
    (build.folder / "quantize_config.json").write_text(json.dumps(GPTQ))
    quantisation.update(config)
    assert config.model_config.quantization == "fp8"


def test_what_nothing_computes_is_refused(told: Any) -> None:
    content = {**GPTQ, "quant_method": "bitblas"}
    with pytest.raises(UnsupportedError, match="quantization='bitblas'"):
        told("quantize_config.json", json.dumps(content).encode())
