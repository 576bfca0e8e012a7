# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in envs.TABLE:
        monkeypatch.delenv(name, raising=False)
    assert envs.VLLM_KUNLUN_DEVICE == "auto"
    assert envs.VLLM_KUNLUN_MAX_N == 128
    assert envs.VLLM_KUNLUN_EMULATED_MEMORY_GIB is None
    assert envs.VLLM_KUNLUN_PACK_LINEAR is True
    assert envs.VLLM_KUNLUN_ENABLE_INT8_BMM is False


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("VLLM_KUNLUN_DEVICE", "emulated", "emulated"),
        ("VLLM_KUNLUN_EMULATED_MEMORY_GIB", "1.5", 1.5),
        ("VLLM_KUNLUN_MAX_N", "7", 7),
        ("VLLM_KUNLUN_PACK_LINEAR", "False", False),
        ("VLLM_KUNLUN_ENABLE_INT8_BMM", "TRUE", True),
    ],
)
def test_a_value_is_read_when_asked_for(
    name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    assert getattr(envs, name) == value
    assert type(getattr(envs, name)) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("VLLM_KUNLUN_DEVICE", "cuda", "auto or xpu or emulated"),
        ("VLLM_KUNLUN_EMULATED_MEMORY_GIB", "0", "at least 0.01"),
        ("VLLM_KUNLUN_EMULATED_MEMORY_GIB", "inf", "a number"),
        ("VLLM_KUNLUN_EMULATED_MEMORY_GIB", "nan", "a number"),
        ("VLLM_KUNLUN_MAX_N", "0", "at least 1"),
        ("VLLM_KUNLUN_MAX_N", "1.5", "a whole number"),
        ("VLLM_KUNLUN_PACK_LINEAR", "maybe", "0 or 1"),
    ],
)
def test_a_bad_value_names_the_variable_and_what_is_allowed(
    name: str, text: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(UnsupportedError, match=re.escape(f"{name}={text!r}")) as caught:
        getattr(envs, name)
    assert allowed in str(caught.value)


def test_a_name_outside_the_table_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="VLLM_KUNLUN_DEVIC "):
        _ = envs.VLLM_KUNLUN_DEVIC


@pytest.mark.parametrize("variable", envs.TABLE.values(), ids=list(envs.TABLE))
def test_the_table_agrees_with_itself(variable: envs.EnvVar) -> None:
    assert variable.meaning
    if variable.default is not None:
        assert variable.parse(str(variable.default)) == variable.default


def test_the_manuals_cheat_sheet_is_covered() -> None:
    """The names of the manual's section IX and of its MoE and MLA sections."""
    manual = """XPU_VISIBLE_DEVICES VLLM_HOST_IP XMLIR_FORCE_USE_XPU_GRAPH XMLIR_CUDNN_ENABLED
        XMLIR_ENABLE_MOCK_TORCH_COMPILE XPU_USE_DEFAULT_CTX BKCL_FORCE_SYNC USE_ORI_ROPE
        XFT_USE_FAST_SWIGLU XPU_USE_FAST_SWIGLU XPU_USE_MOE_SORTED_THRES KUNLUN_USE_MOE_FFN_BLOCK
        VLLM_KUNLUN_ENABLE_INT8_BMM"""
    assert set(manual.split()) <= set(envs.TABLE)


def test_set_default_yields_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BKCL_FORCE_SYNC", "0")
    assert envs.set_default("BKCL_FORCE_SYNC", "1") is False
    assert os.environ["BKCL_FORCE_SYNC"] == "0"
    monkeypatch.delenv("BKCL_FORCE_SYNC")
    assert envs.set_default("BKCL_FORCE_SYNC", "1") is True
    assert os.environ["BKCL_FORCE_SYNC"] == "1"


def test_what_a_card_starts_with_is_the_manuals_advice_for_every_model() -> None:
    """Its section IX, Recommended; what it gives for some models alone stays with their presets."""
    manual = """XMLIR_FORCE_USE_XPU_GRAPH=1 XMLIR_ENABLE_MOCK_TORCH_COMPILE=false
        XMLIR_CUDNN_ENABLED=1 XPU_USE_DEFAULT_CTX=1 BKCL_FORCE_SYNC=1"""
    assert {f"{name}={value}" for name, value in envs.card_values().items()} == set(manual.split())
    for name, value in envs.card_values().items():
        assert envs.TABLE[name].reader == "vendor runtime"
        envs.TABLE[name].parse(value)


def test_the_readme_tells_what_a_card_starts_with() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \|", readme, re.MULTILINE))
    assert told == envs.card_values()


def test_unread() -> None:
    found = envs.unread(
        {
            "VLLM_KUNLUN_DEVCE": "xpu",
            "VLLM_KULUN_DEVICE": "xpu",
            "XPU_VISIBLE_DEVICE": "0",
            "BKCL_SOMETHING_ELSE": "1",
            "VLLM_USE_V1": "1",
            "VLLM_KUNLUN_MAX_N": "2",
            "VLLM_HOST_IP": "0.0.0.0",
            "VLLM_LOGGING_LEVEL": "DEBUG",
            "PATH": "/bin",
        }
    )
    assert found == {
        "VLLM_KUNLUN_DEVCE": "VLLM_KUNLUN_DEVICE",
        "VLLM_KULUN_DEVICE": "VLLM_KUNLUN_DEVICE",
        "XPU_VISIBLE_DEVICE": "XPU_VISIBLE_DEVICES",
        "BKCL_SOMETHING_ELSE": None,
        "VLLM_USE_V1": None,
    }


def test_describe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_MAX_N", "9")
    monkeypatch.delenv("VLLM_KUNLUN_DEVICE", raising=False)
    rows = {row["name"]: row for row in envs.describe()}
    assert list(rows) == list(envs.TABLE)
    assert (rows["VLLM_KUNLUN_MAX_N"]["value"], rows["VLLM_KUNLUN_MAX_N"]["set"]) == ("9", True)
    assert (rows["VLLM_KUNLUN_DEVICE"]["value"], rows["VLLM_KUNLUN_DEVICE"]["set"]) == (
        "auto",
        False,
    )


def test_ranks_on_other_hosts_agree_in_what_is_ours_and_the_vendors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in envs.TABLE:
        monkeypatch.delenv(name, raising=False)
    for name in ("VLLM_KUNLUN_DEVICE", "USE_ORI_ROPE", "VLLM_HOST_IP", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")
    assert envs.shared() == {"VLLM_KUNLUN_DEVICE": "1", "USE_ORI_ROPE": "1"}
