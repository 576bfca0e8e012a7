# SPDX-License-Identifier: Apache-2.0
"""Which library answers: the emulator, the wheels of a card, or one that lacks a function."""

from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch
from support.recorder import Recorder

from vllm_kunlun.emulator import flash_attn, kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.vendor_ops import library
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import VendorLibraryError

SURFACES = {"flash_attn": flash_attn, "kunlun_ops": kunlun_ops, "xspeedgate_ops": xspeedgate_ops}


def test_missing_function_is_named_at_first_use() -> None:
    old_wheel = types.SimpleNamespace(rmsnorm=lambda *args: None)
    with library.use_libraries(kunlun_ops=old_wheel):
        vendor_ops.rmsnorm(None, None, None, 1e-6)
        with pytest.raises(VendorLibraryError) as raised:
            vendor_ops.swiglu(x=torch.ones(1, 2), y=torch.ones(1, 1))
        for part in ("kunlun_ops", "'swiglu'", "version", "vllm-kunlun doctor"):
            assert part in str(raised.value)
        missing = library.missing_symbols()
    assert "swiglu" in missing["kunlun_ops"]
    assert "rmsnorm" not in missing["kunlun_ops"]
    assert missing["xspeedgate_ops"] == []


def test_without_a_card_the_emulator_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setattr(device, "detect", lambda: device.Device("emulated", "for the test"))
    assert library.libraries()._asdict() == SURFACES
    assert library.missing_symbols() == {name: [] for name in SURFACES}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setattr(device, "detect", lambda: device.Device("xpu", "for the test"))
    return monkeypatch


def test_on_a_card_the_wheels_answer(card: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    names = ["cocopod", "kunlun_ops", "xspeedgate_ops", "flash_attn"]
    modules = {name: types.ModuleType(name) for name in names}

    original = importlib.import_module

    def import_module(name: str) -> types.ModuleType:
        if name not in modules:  # Python 3.10's importlib.resources asks, too
            return original(name)
        imported.append(name)
        return modules[name]

    card.setattr(library.importlib, "import_module", import_module)
    found = library.libraries()
    assert imported == names
    assert found.kunlun_ops is modules["kunlun_ops"]
    assert found.xspeedgate_ops is torch.ops.xspeedgate_ops
    assert found.flash_attn is modules["flash_attn"]
    library.libraries()
    assert len(imported) == len(names)  # chosen once


def test_a_card_may_lack_flash_attn(card: pytest.MonkeyPatch) -> None:
    for name in ("cocopod", "kunlun_ops", "xspeedgate_ops"):
        card.setitem(sys.modules, name, types.ModuleType(name))
    card.setitem(sys.modules, "flash_attn", None)
    assert library.libraries().flash_attn is None
    assert not library.has("flash_attn", "flash_attn_func")
    assert library.missing_symbols()["flash_attn"] == flash_attn.__all__
    with pytest.raises(VendorLibraryError, match=r"flash_attn .*'flash_attn_func'.*doctor"):
        vendor_ops.flash_attn_func(*torch.empty(3, 1, 1, 1, 1))


def test_a_flash_attn_that_fails_to_load_counts_as_absent(card: pytest.MonkeyPatch) -> None:
    """A build for other cards: its shared library is not there, which is an OSError."""
    for name in ("cocopod", "kunlun_ops", "xspeedgate_ops"):
        card.setitem(sys.modules, name, types.ModuleType(name))
    original = importlib.import_module

    def import_module(name: str) -> types.ModuleType:
        if name == "flash_attn":
            raise OSError("libcudart.so.12: cannot open shared object file")
        return original(name)

    card.setattr(library.importlib, "import_module", import_module)
    assert library.libraries().flash_attn is None
    assert not library.has("flash_attn", "flash_attn_varlen_func")


def test_wheels_answer_without_a_card_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: types.ModuleType(name) for name in ("cocopod", "kunlun_ops", "xspeedgate_ops")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "emulated")
    monkeypatch.setenv("VLLM_KUNLUN_VENDOR", "wheels")
    assert library.libraries()[:2] == (modules["kunlun_ops"], torch.ops.xspeedgate_ops)
    assert device.detect().kind == "emulated"


def test_a_broken_wheel_is_named(card: pytest.MonkeyPatch) -> None:
    card.setitem(sys.modules, "cocopod", types.ModuleType("cocopod"))
    card.setitem(sys.modules, "kunlun_ops", None)
    with pytest.raises(VendorLibraryError, match="kunlun_ops cannot be imported"):
        library.libraries()


def test_use_libraries_restores(recorders: dict[str, Recorder]) -> None:
    inner = Recorder()
    with pytest.raises(KeyError), library.use_libraries(kunlun_ops=inner):
        vendor_ops.rmsnorm(1, 2, 3, 4)
        raise KeyError
    vendor_ops.rmsnorm(5, 6, 7, 8)
    assert inner.calls == [("rmsnorm", (1, 2, 3, 4), {})]
    assert recorders["kunlun_ops"].calls == [("rmsnorm", (5, 6, 7, 8), {})]
