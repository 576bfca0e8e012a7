# SPDX-License-Identifier: Apache-2.0
"""What registering does to the environment of the vendor's runtime, with a card that is stubbed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from vllm_kunlun.platforms import device, envs, plugin, triton_messages, version
from vllm_kunlun.platforms.errors import IncompatibleVllmError
from vllm_kunlun.platforms.ledger import import_hook, patch_ledger


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in envs.TABLE:
        monkeypatch.delenv(name, raising=False)
    for module, name in ((import_hook, "install"), (patch_ledger, "install")):
        monkeypatch.setattr(module, name, lambda: None)
    monkeypatch.setattr(version, "check_vllm", lambda: None)
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "detect", lambda: device.Device("xpu", "a stub"))


def values() -> dict[str, str]:
    return {name: os.environ[name] for name in envs.TABLE if name in os.environ}


@pytest.mark.usefixtures("card")
def test_on_a_card_the_vendors_advice_is_set_and_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BKCL_FORCE_SYNC", "0")
    monkeypatch.setenv("XMLIR_CUDNN_ENABLED", "")
    with caplog.at_level(logging.INFO, "vllm.kunlun"):
        assert plugin.register() is not None
        assert plugin.register() is not None
    wanted = {**envs.card_values(), "BKCL_FORCE_SYNC": "0", "XMLIR_CUDNN_ENABLED": ""}
    assert values() == wanted
    (line,) = caplog.messages
    for name, value in wanted.items():
        assert (f"{name}={value}" in line) == (name not in ("BKCL_FORCE_SYNC",
                                                            "XMLIR_CUDNN_ENABLED"))  # fmt: skip


@pytest.mark.usefixtures("card")
def test_nothing_is_said_where_the_user_set_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in envs.card_values():
        monkeypatch.setenv(name, "0")
    with caplog.at_level(logging.INFO, "vllm.kunlun"):
        plugin.register()
    assert set(values().values()) == {"0"}
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["emulated", "none"])
def test_without_a_card_nothing_is_set(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "detect", lambda: device.Device(kind, "a stub"))  # type: ignore[arg-type]
    assert (plugin.register() is None) == (kind == "none")
    assert values() == {}


@pytest.mark.usefixtures("card")
def test_the_versions_are_checked_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    steps = ((version, "check_vllm"), (import_hook, "install"), (patch_ledger, "install"),
             (triton_messages, "hide"))  # fmt: skip
    for module, name in steps:
        said = f"{module.__name__.rpartition('.')[2]}.{name}"
        monkeypatch.setattr(module, name, lambda said=said: done.append(said))
    plugin.register()
    assert done == [
        "version.check_vllm",
        "import_hook.install",
        "patch_ledger.install",
        "triton_messages.hide",
    ]


@pytest.mark.usefixtures("card")
def test_a_refused_start_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise IncompatibleVllmError("planted")

    monkeypatch.setattr(version, "check_vllm", refuse)
    assert str(plugin.register()).endswith("RefusedPlatform")
    assert values() == {}
