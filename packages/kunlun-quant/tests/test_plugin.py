# SPDX-License-Identifier: Apache-2.0
"""Registration: by entry point, twice, and only on our platform."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from vllm.model_executor.layers import quantization
from vllm.model_executor.layers.quantization.kernels import mixed_precision, scaled_mm
from vllm.platforms import PlatformEnum

from vllm_kunlun.quantization import registry


@pytest.fixture
def registries(monkeypatch):
    """vLLM's registries, as they are without this wheel."""
    possible = [k for k in mixed_precision._POSSIBLE_KERNELS if "kunlun" not in k.__module__]
    int8 = {k: v for k, v in scaled_mm._POSSIBLE_INT8_KERNELS.items() if k != PlatformEnum.OOT}
    monkeypatch.setattr(mixed_precision, "_POSSIBLE_KERNELS", possible)
    monkeypatch.setattr(scaled_mm, "_POSSIBLE_INT8_KERNELS", int8)
    monkeypatch.setattr(quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {})


def _register() -> None:
    group = entry_points(group="vllm.general_plugins")
    next(e for e in group if e.name == "kunlun_quant").load()()


def test_entry_point_registers_twice(registries, monkeypatch):
    from vllm import platforms

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    before = len(mixed_precision._POSSIBLE_KERNELS)
    _register()
    _register()
    for name, config in registry.CONFIGS.items():
        assert quantization.get_quantization_config(name) is config
    assert scaled_mm._POSSIBLE_INT8_KERNELS[PlatformEnum.OOT] == registry.INT8_KERNELS
    ours = len(registry.MIXED_PRECISION_KERNELS)
    assert mixed_precision._POSSIBLE_KERNELS[:ours] == registry.MIXED_PRECISION_KERNELS
    assert len(mixed_precision._POSSIBLE_KERNELS) == before + ours


def test_another_platform_keeps_its_methods(registries, monkeypatch):
    from vllm import platforms
    from vllm.platforms.interface import UnspecifiedPlatform

    monkeypatch.setattr(platforms, "_current_platform", UnspecifiedPlatform())
    _register()
    assert quantization._CUSTOMIZED_METHOD_TO_QUANT_CONFIG == {}
    assert PlatformEnum.OOT not in scaled_mm._POSSIBLE_INT8_KERNELS
