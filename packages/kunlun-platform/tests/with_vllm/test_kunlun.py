# SPDX-License-Identifier: Apache-2.0
"""What the platform class answers vLLM, on an emulated device."""

from __future__ import annotations

import importlib
import os
import types
from typing import Any

import pytest
import torch
from vllm import PoolingParams, SamplingParams
from vllm.platforms.interface import Platform, PlatformEnum

from vllm_kunlun.platforms import kunlun, memory
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.kunlun import KunlunPlatform

GIB = 2**30


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


# --------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("gib", ["0.5", "3", "200"])
def test_memory_that_the_user_set(gib: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", gib)
    assert KunlunPlatform.get_device_total_memory() == int(float(gib) * GIB)


@pytest.mark.parametrize("gib", ["0", "-1", "lots", "inf"])
def test_memory_that_makes_no_sense(gib: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", gib)
    with pytest.raises(UnsupportedError, match="VLLM_KUNLUN_EMULATED_MEMORY_GIB"):
        KunlunPlatform.get_device_total_memory()


def test_memory_by_default_is_a_share_of_the_host_and_never_above_a_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", raising=False)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < KunlunPlatform.get_device_total_memory() <= min(physical // 2, 96 * GIB)
    monkeypatch.setattr(memory, "host_limit_bytes", lambda: 1024 * GIB)
    assert KunlunPlatform.get_device_total_memory() == 96 * GIB
    monkeypatch.setattr(memory, "host_limit_bytes", lambda: 10 * GIB)
    assert KunlunPlatform.get_device_total_memory() == 5 * GIB


def test_a_control_groups_limit_counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited, limited = tmp_path / "v2", tmp_path / "v1"
    unlimited.write_text("max\n")
    limited.write_text("1048576\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(unlimited), str(tmp_path / "absent")))
    free = memory.host_limit_bytes()
    assert free == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(unlimited), str(limited)))
    assert memory.host_limit_bytes() == 1048576


class _CardTorch:
    """``torch.cuda`` of a card, which asking for properties would initialise."""

    def __init__(self, *, initialised: bool) -> None:
        self.initialised = initialised

    def is_initialized(self) -> bool:
        return self.initialised

    def get_device_properties(self, device_id: int) -> Any:
        assert self.initialised, "the device would be initialised"
        return types.SimpleNamespace(total_memory=(64 + device_id) * GIB)


def test_memory_of_a_card_is_asked_for_only_where_the_card_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kunlun, "_ON_CARD", True)
    monkeypatch.setattr(torch, "cuda", _CardTorch(initialised=False))
    assert KunlunPlatform.get_device_total_memory() == 96 * GIB
    monkeypatch.setattr(torch, "cuda", _CardTorch(initialised=True))
    assert KunlunPlatform.get_device_total_memory(2) == 66 * GIB


def test_memory_in_use_moves_with_allocations() -> None:
    size = 256 * 2**20
    before = KunlunPlatform.get_current_memory_usage()
    held = torch.ones(size // 4)
    during = KunlunPlatform.get_current_memory_usage()
    assert 0.8 * size < during - before < 1.5 * size
    del held
    assert KunlunPlatform.get_current_memory_usage() < during - 0.8 * size


# -------------------------------------------------------------------------------- requests


def validate(params: Any) -> None:
    KunlunPlatform.validate_request("a prompt", params, {})


@pytest.mark.parametrize("n", [1, 2, 128])
def test_an_ordinary_request_passes(n: int) -> None:
    validate(SamplingParams(n=n, temperature=1.0))
    validate(PoolingParams())


@pytest.mark.parametrize("n", [129, 100_000])
def test_an_absurd_number_of_samples_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=rf"n={n}.*at most 128.*VLLM_KUNLUN_MAX_N"):
        validate(SamplingParams(n=n, temperature=1.0))


def test_the_number_of_samples_is_the_servers_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_MAX_N", "4")
    validate(SamplingParams(n=4, temperature=1.0))
    with pytest.raises(UnsupportedError, match="at most 4"):
        validate(SamplingParams(n=5, temperature=1.0))
