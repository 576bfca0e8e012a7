# SPDX-License-Identifier: Apache-2.0
"""Registration by entry point: on our platform, and on no other."""

from __future__ import annotations

from importlib.metadata import entry_points

from vllm.model_executor.layers import quantization
from vllm.platforms import PlatformEnum

from vllm_kunlun.quantization import registry
from vllm_kunlun.quantization.vllm_compat.linear_kernels import scaled_mm


def _register() -> None:
    group = entry_points(group="vllm.general_plugins")
    next(e for e in group if e.name == "kunlun_quant").load()()


def test_the_entry_point_registers(registries, monkeypatch):
    from vllm import platforms

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    _register()
    assert quantization._CUSTOMIZED_METHOD_TO_QUANT_CONFIG == registry.CONFIGS
    assert scaled_mm._POSSIBLE_INT8_KERNELS[PlatformEnum.OOT] == registry.INT8_KERNELS


def test_another_platform_keeps_its_methods(registries, monkeypatch):
    from vllm import platforms
    from vllm.platforms.interface import UnspecifiedPlatform

    monkeypatch.setattr(platforms, "_current_platform", UnspecifiedPlatform())
    _register()
    assert quantization._CUSTOMIZED_METHOD_TO_QUANT_CONFIG == {}
    assert PlatformEnum.OOT not in scaled_mm._POSSIBLE_INT8_KERNELS
