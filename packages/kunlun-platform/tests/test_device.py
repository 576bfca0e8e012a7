# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import DeviceUnavailableError, UnsupportedError


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in device.VENDOR_MODULES:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_KUNLUN_DEVICE", raising=False)


def test_nothing_there_means_the_emulator(dev: Path) -> None:
    for name in ("xpuctrl", "nvidiactl", "null"):
        (dev / name).touch()
    (dev / "dri").mkdir()
    (dev / "dri" / "renderD128").touch()
    assert device.detect(dev_root=dev).kind == "emulated"


@pytest.mark.parametrize("node", ["nvidia0", "kfd", "davinci1", "accel/accel0", "neuron0"])
def test_another_accelerator_makes_us_stand_aside(dev: Path, node: str) -> None:
    (dev / node).parent.mkdir(exist_ok=True)
    (dev / node).touch()
    found = device.detect(dev_root=dev)
    assert found.kind == "none"
    assert "VLLM_KUNLUN_DEVICE=emulated" in found.reason
    assert "\n" not in found.reason
    assert device.detect("emulated", dev).kind == "emulated"


@pytest.mark.usefixtures("vendor")
@pytest.mark.parametrize("others", [(), ("nvidia0",)])
@pytest.mark.parametrize("choice", ["auto", "xpu"])
def test_a_card_with_its_libraries(dev: Path, others: tuple[str, ...], choice: str) -> None:
    for name in ("xpu0", "xpu1", *others):
        (dev / name).touch()
    found = device.detect(choice, dev)
    assert found.kind == "xpu"
    assert "xpu0, xpu1" in found.reason


@pytest.mark.parametrize("absent", device.VENDOR_MODULES)
@pytest.mark.usefixtures("vendor")
def test_a_card_without_one_library(
    dev: Path, absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, absent)
    (dev / "xpu0").touch()
    found = device.detect(dev_root=dev)
    assert found.kind == "none"
    assert absent in found.reason
    with pytest.raises(DeviceUnavailableError, match=absent):
        device.detect("xpu", dev)


def test_an_explicit_card_lists_each_missing_piece(dev: Path) -> None:
    with pytest.raises(DeviceUnavailableError) as caught:
        device.detect("xpu", dev)
    for piece in ("xpu[0-9]*", *device.VENDOR_MODULES, "VLLM_KUNLUN_DEVICE=emulated"):
        assert piece in str(caught.value)


def test_the_environment_decides_unless_told_otherwise(
    dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dev / "nvidia0").touch()
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "emulated")
    assert device.detect(dev_root=dev).kind == "emulated"
    assert device.detect("auto", dev).kind == "none"


@pytest.mark.parametrize("choice", ["XPU", "gpu", ""])
def test_an_unknown_choice(dev: Path, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="auto, xpu or emulated"):
        device.detect(choice, dev)
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", choice)
    with pytest.raises(UnsupportedError, match="auto or xpu or emulated"):
        device.detect(dev_root=dev)
