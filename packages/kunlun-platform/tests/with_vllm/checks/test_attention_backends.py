# SPDX-License-Identifier: Apache-2.0
"""Which attention backend a layer gets, and what each refusal says."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.v1.attention.backend import AttentionType
from vllm.v1.attention.backends.registry import AttentionBackendEnum
from vllm.v1.attention.selector import AttentionSelectorConfig

from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.checks import attention_backends
from vllm_kunlun.platforms.errors import MissingWheelError, UnsupportedError
from vllm_kunlun.platforms.kunlun import KunlunPlatform

DENSE = "vllm_kunlun.ops.attention.backend.KunlunAttentionBackend"


def select(selected: Any = None, **changes: Any) -> str:
    wanted = AttentionSelectorConfig(
        head_size=64, dtype=torch.float16, kv_cache_dtype="auto", block_size=16
    )
    return KunlunPlatform.get_attn_backend_cls(selected, wanted._replace(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dtype": torch.bfloat16},
        {"dtype": torch.float32},
        {"kv_cache_dtype": None},
        {"kv_cache_dtype": "bfloat16"},
        {"block_size": None},
        {"block_size": 128},
        {"block_size": 320},  # a hybrid model's, cut into pages of 64
        {"has_sink": True},
        {"attn_type": AttentionType.ENCODER_ONLY},
        {"head_size": 80},
    ],
    ids=str,
)
def test_dense_layers(changes: dict[str, Any]) -> None:
    assert select(**changes) == DENSE


def test_naming_our_own_slot_is_the_same() -> None:
    assert select(AttentionBackendEnum.CUSTOM) == DENSE


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"kv_cache_dtype": "fp8"}, ["--kv-cache-dtype fp8", "--kv-cache-dtype auto"]),
        ({"dtype": torch.float64}, ["torch.float64", "--dtype float16"]),
        ({"head_size": 72}, ["head_size=72", "64, 80, 96"]),
        ({"block_size": 24}, ["--block-size 24", "--block-size 16, 32, 64 or 128"]),
        ({"attn_type": AttentionType.ENCODER_DECODER}, ["encoder_decoder", "cross attention"]),
        ({"use_mm_prefix": True}, ["both directions", "--limit-mm-per-prompt"]),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], sentences: list[str]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        select(**changes)
    for sentence in sentences:
        assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["use_non_causal", "use_rswa"])
def test_what_a_newer_vllm_asks_for_is_refused(name: str) -> None:
    wanted = AttentionSelectorConfig(64, torch.float16, "auto", 16)._asdict()
    assert attention_backends.select(None, SimpleNamespace(**{**wanted, name: False})) == DENSE
    with pytest.raises(UnsupportedError, match=f"asks for {name}"):
        attention_backends.select(None, SimpleNamespace(**{**wanted, name: True}))


def test_another_devices_backend_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"FLASH_ATTN.*--attention-backend unset"):
        select(AttentionBackendEnum.FLASH_ATTN)


# --------------------------------------------------------------------------------- wheels


def provide(monkeypatch: pytest.MonkeyPatch, *values: str, kind: str = "dense") -> None:
    entries = [EntryPoint(kind, value, attention_backends.GROUP) for value in values]

    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        return [entry for entry in entries if (entry.group, entry.name) == (group, name)]

    monkeypatch.setattr(wheels, "entry_points", entry_points)


@pytest.mark.parametrize(
    ("changes", "kind", "wheel"),
    [
        ({}, "dense", "kunlun-custom-ops"),
        ({"use_mla": True}, "mla", "kunlun-mla"),
        ({"use_mla": True, "use_sparse": True}, "mla_sparse", "kunlun-mla"),
    ],
    ids=["dense", "mla", "mla_sparse"],
)
def test_a_missing_wheel_is_named(
    changes: dict[str, Any], kind: str, wheel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(monkeypatch)
    with pytest.raises(MissingWheelError, match=f"'{kind}'.*pip install {wheel}"):
        select(**changes)


def test_two_wheels_for_one_backend_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "ours.backend:A", "theirs.backend:B")
    with pytest.raises(MissingWheelError, match=r"2 wheels.*ours.backend:A, theirs.backend:B"):
        select()


def test_a_backend_that_cannot_be_imported_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "no_such_package.backend:A")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        select()
