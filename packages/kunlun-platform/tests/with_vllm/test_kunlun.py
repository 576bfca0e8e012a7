# SPDX-License-Identifier: Apache-2.0
"""What the platform class answers vLLM, on an emulated device."""

from __future__ import annotations

import importlib

import pytest
import torch
from vllm import SamplingParams
from vllm import envs as vllm_envs
from vllm.platforms import interface
from vllm.platforms.interface import Platform, PlatformEnum
from vllm.utils.import_utils import resolve_obj_by_qualname

from vllm_kunlun.platforms import kunlun, memory, wheels
from vllm_kunlun.platforms.compiler import KunlunCompiler
from vllm_kunlun.platforms.errors import MissingWheelError, UnsupportedError
from vllm_kunlun.platforms.kunlun import KunlunPlatform


@pytest.fixture
def platform() -> KunlunPlatform:
    return KunlunPlatform()


def test_it_is_the_platform_that_vllm_uses() -> None:
    from vllm.platforms import current_platform

    assert isinstance(current_platform, KunlunPlatform)


def test_attributes_that_vllm_reads(platform: KunlunPlatform) -> None:
    assert issubclass(KunlunPlatform, Platform)
    assert platform._enum == PlatformEnum.OOT and platform.is_out_of_tree()
    assert not platform.is_cuda() and not platform.is_cuda_alike() and not platform.is_cpu()
    assert platform.device_type == "cpu" and platform.dispatch_key == "CPU"
    assert platform.dist_backend == "gloo"
    assert platform.device_control_env_var == "XPU_VISIBLE_DEVICES"
    assert platform.simple_compile_backend == "eager"
    assert platform.get_device_name() == "Kunlun P800 (emulated)"
    assert platform.get_device_capability() is None
    assert not platform.has_device_capability(80)
    assert platform.get_device_uuid(1) != platform.get_device_uuid(0)
    assert not platform.is_pin_memory_available()
    assert not platform.support_static_graph_mode()
    assert platform.opaque_attention_op() and platform.support_hybrid_kv_cache()
    assert not platform.is_sleep_mode_available()


def test_our_variables_are_no_misspelt_ones_of_vllms(
    platform: KunlunPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(Platform, "validate_environ"):
        pytest.skip("this vLLM does not check the names")
    known = dict(vllm_envs.environment_variables)
    monkeypatch.setenv("VLLM_KUNLUN_MAX_N", "3")
    platform.validate_environ(hard_fail=True)
    monkeypatch.setenv("VLLM_KUNLUN_MAX_M", "3")
    with pytest.raises(ValueError, match="VLLM_KUNLUN_MAX_M"):
        platform.validate_environ(hard_fail=True)
    assert vllm_envs.environment_variables == known


def test_an_engine_that_ends_warns_of_nothing(
    platform: KunlunPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(interface.logger, "warning", lambda text, *_: said.append(text))
    platform.empty_cache()  # asked for by cleanup_dist_env_and_memory
    assert said == []


def test_nothing_is_computed_with_gradients(platform: KunlunPlatform) -> None:
    weight = torch.ones(2, requires_grad=True)
    with platform.inference_mode():
        assert not (weight * 2).requires_grad


def test_every_class_path_that_it_names_can_be_imported(platform: KunlunPlatform) -> None:
    for path in (
        platform.get_punica_wrapper(),
        platform.get_device_communicator_cls(),
        platform.get_static_graph_wrapper_cls(),
    ):
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type)


# --------------------------------------------------------------------------------- dtypes


def test_half_precision_is_preferred(platform: KunlunPlatform) -> None:
    assert platform.supported_dtypes == [torch.float16, torch.bfloat16, torch.float32]
    platform.supported_dtypes.clear()
    assert len(platform.supported_dtypes) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_dtypes_that_run(dtype: torch.dtype) -> None:
    KunlunPlatform.check_if_supports_dtype(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn, torch.int8], ids=str)
def test_dtypes_that_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UnsupportedError, match=rf"dtype={dtype}.*--dtype float16"):
        KunlunPlatform.check_if_supports_dtype(dtype)


# ------------------------------------------------------------------------ asked elsewhere


def test_an_absurd_number_of_samples_is_refused() -> None:
    KunlunPlatform.validate_request("a prompt", SamplingParams(n=2, temperature=1.0), {})
    with pytest.raises(UnsupportedError, match="n=129"):
        KunlunPlatform.validate_request("a prompt", SamplingParams(n=129, temperature=1.0), {})


def test_a_quantisation_without_arithmetic_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="quantization='fp_quant'"):
        KunlunPlatform.verify_quantization("fp_quant")


def test_the_compiler_is_ours() -> None:
    assert resolve_obj_by_qualname(KunlunPlatform.get_compile_backend()) is KunlunCompiler


def test_adapters_without_their_wheel_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "entry_points", lambda **_: [])
    with pytest.raises(MissingWheelError, match=r"--enable-lora.*pip install kunlun-custom-ops"):
        KunlunPlatform.get_punica_wrapper()


@pytest.mark.parametrize("on_card", [True, False])
def test_memory_is_the_cards_or_the_emulators(
    on_card: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kunlun, "_ON_CARD", on_card)
    monkeypatch.setattr(memory, "total_bytes", lambda index, *, on_card: (index, on_card))
    monkeypatch.setattr(memory, "used_bytes", lambda device, *, on_card: (device, on_card))
    assert KunlunPlatform.get_device_total_memory(3) == (3, on_card)
    assert KunlunPlatform.get_current_memory_usage("a device") == ("a device", on_card)
