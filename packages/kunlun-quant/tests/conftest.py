# SPDX-License-Identifier: Apache-2.0
"""A layer as vLLM builds it on one rank, and configurations of compressed-tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.recorder import names_called
from vllm import distributed
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor import parameter
from vllm.model_executor.layers import linear, quantization
from vllm.model_executor.layers.linear import QKVParallelLinear
from vllm.platforms import PlatformEnum

from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization import registry
from vllm_kunlun.quantization.formats.compressed_tensors import KunlunCompressedTensorsConfig
from vllm_kunlun.quantization.vllm_compat import formats
from vllm_kunlun.quantization.vllm_compat.linear_kernels import mixed_precision, scaled_mm

HIDDEN, HEAD, HEADS, KV_HEADS = 32, 8, 4, 2

_REFUSED = {  # by name, with vLLM 0.33
    "gptq": ["formats/test_gptq.py", "formats/test_marlin.py", "linear/test_gptq.py"],
    "inc": ["formats/test_auto_round.py"],
    "fp8": ["formats/test_fp8.py"],
    "moe_wna16": ["formats/test_moe_wna16.py"],
    "mxfp4": ["formats/test_mxfp4.py"],
}
collect_ignore = [
    file for method, files in _REFUSED.items() if method not in formats.CONFIGS for file in files
]
"""Tests of formats that do not run beside the installed vLLM."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the vendor's functions, in the order in which the test comes to call them."""
    return names_called(monkeypatch)


@pytest.fixture
def bare() -> Callable[..., Any]:
    """An instance of a layer's class without its parts: what a method is chosen for."""

    def make(kind: type[torch.nn.Module], **attributes: Any) -> torch.nn.Module:
        made = kind.__new__(kind)
        torch.nn.Module.__init__(made)
        for name, value in attributes.items():
            object.__setattr__(made, name, value)
        return made

    return make


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """vLLM's parallel state and registries as a process of one rank has them."""
    for module in (distributed, linear, parameter):
        monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
        monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
    registry.register()
    with set_current_vllm_config(VllmConfig()):
        yield


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's registries, as they are without this wheel."""
    supported = [n for n in linear.WEIGHT_LOADER_V2_SUPPORTED if not n.startswith("Kunlun")]
    possible = mixed_precision._POSSIBLE_KERNELS
    if isinstance(possible, dict):
        possible = {platform: k for platform, k in possible.items() if platform != PlatformEnum.OOT}
    else:
        possible = [kernel for kernel in possible if "kunlun" not in kernel.__module__]
    int8 = {k: v for k, v in scaled_mm._POSSIBLE_INT8_KERNELS.items() if k != PlatformEnum.OOT}
    monkeypatch.setattr(linear, "WEIGHT_LOADER_V2_SUPPORTED", supported)
    monkeypatch.setattr(mixed_precision, "_POSSIBLE_KERNELS", possible)
    monkeypatch.setattr(scaled_mm, "_POSSIBLE_INT8_KERNELS", int8)
    monkeypatch.setattr(quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {})


@pytest.fixture
def int8_configuration() -> Callable[..., Any]:
    """compressed-tensors W8A8, by strategy of the weights' scales and kind of activations."""
    return _configuration


def _configuration(strategy: str, static: bool, symmetric: bool, **more: Any) -> Any:
    activations = {"num_bits": 8, "type": "int", "symmetric": symmetric, "dynamic": not static,
                   "strategy": "tensor" if static else "token"}  # fmt: skip
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": strategy}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    config = KunlunCompressedTensorsConfig.from_config(
        {"format": "int-quantized", "config_groups": {"g": group}, "ignore": [], **more}
    )
    config.packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
    return config


@pytest.fixture
def qkv(one_rank: None) -> Callable[[Any], QKVParallelLinear]:
    """A fused projection: 32 rows of queries, 16 of keys, 16 of values, 32 inputs."""
    return lambda config: QKVParallelLinear(
        HIDDEN, HEAD, HEADS, KV_HEADS, quant_config=config, prefix="m.qkv_proj",
        params_dtype=torch.float32,
    )  # fmt: skip


@pytest.fixture
def renew() -> Callable[..., None]:
    """``renew(layer, tensors)``: give a layer that was converted other tensors, as at run time.

    Also holds that what it computes with stays where it lies.
    """
    return _renew


def _renew(layer: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    form = forms.form_of(layer)
    assert isinstance(form, forms.ConvertedForm)
    places = {name: each.data_ptr() for name, each in layer.named_parameters()}
    form.show()
    form.open()
    with form.writes:
        for name, tensor in tensors.items():
            getattr(layer, name).data.copy_(tensor)
    assert not form.missing
    form.close(fixed=True)
    form.hide()
    form._convert(layer)  # as vLLM's function for all layers does again, in some loops
    assert {name: each.data_ptr() for name, each in layer.named_parameters()} == places
