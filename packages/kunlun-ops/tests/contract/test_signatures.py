# SPDX-License-Identifier: Apache-2.0
"""What a library takes against what the adapter passes: fits, differs, cannot be told."""

from __future__ import annotations

import inspect
import logging
import sys
import types
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator import flash_attn, kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops.contract.functions import VendorFunction, called
from vllm_kunlun.ops.contract.signatures import compare, summary
from vllm_kunlun.ops.vendor_ops import library
from vllm_kunlun.ops.vendor_ops.library import Libraries

SURFACES = {"flash_attn": flash_attn, "kunlun_ops": kunlun_ops, "xspeedgate_ops": xspeedgate_ops}
CALLED = called()


def found(surface: str, **functions: Any) -> dict[str, tuple[str, str]]:
    empty = types.SimpleNamespace()
    libraries = Libraries(empty, empty, None)._replace(
        **{surface: types.SimpleNamespace(**functions)}
    )
    return {each.function: (each.state, each.detail) for each in compare(libraries)}


@pytest.mark.parametrize("each", CALLED, ids=lambda each: each.name)
def test_the_contracts_arguments_are_the_emulators(each: VendorFunction) -> None:
    """All that it takes and nothing else: the adapter's calls are held against it elsewhere."""
    function = getattr(SURFACES[each.surface], each.name.split(".", 1)[1])
    positional, named = each.arguments
    signature = inspect.signature(function)
    signature.bind(*positional, **dict.fromkeys(named))
    assert {*positional, *named} == set(signature.parameters)


def test_every_function_that_is_called_has_its_arguments() -> None:
    emulated = {f"{name}.{each}" for name, where in SURFACES.items() for each in where.__all__}
    assert {each.name for each in CALLED} == emulated


def test_the_emulator_takes_them() -> None:
    findings = compare(library._emulated())
    assert {each.state for each in findings} == {"fits"}
    assert summary(findings) == ""


def test_another_release_of_a_function_differs() -> None:
    def without_window(out: Any, q: Any, k_cache: Any, *, sink: Any = None) -> None: ...

    def of_four(key: Any, value: Any, kv_cache: Any, slot_mapping: Any, /) -> None: ...

    name = "kunlun_ops.speculative_attention"
    state, detail = found("kunlun_ops", speculative_attention=without_window)[name]
    assert state == "differs"
    assert "unexpected keyword argument 'v_cache'" in detail
    assert "it takes (out" in detail
    state, detail = found("kunlun_ops", reshape_and_cache=of_four)["kunlun_ops.reshape_and_cache"]
    assert (state, "too many positional" in detail) == ("differs", True)


def test_what_does_not_say_what_it_takes_is_unknown() -> None:
    def anything(*args: Any, **kwargs: Any) -> None: ...

    assert found("kunlun_ops", rmsnorm=anything, swiglu=max) == {
        "kunlun_ops.rmsnorm": ("unknown", ""),
        "kunlun_ops.swiglu": ("unknown", ""),
    }


def test_schemas_of_torch_ops() -> None:
    """One overload that takes the call is enough."""
    own = torch.library.Library("kunlun_signature_test", "FRAGMENT")
    own.define("solve_tril_ns(Tensor(a!) A, Tensor c, Tensor i, int chunk_size=64) -> ()")
    own.define("rope_vit(Tensor t, Tensor freqs, *, bool interleaved) -> Tensor")
    own.define("rope_vit.flag(Tensor t, Tensor freqs, bool interleaved=False) -> Tensor")
    own.define("moe_active_expert_balance(Tensor topk_ids, *, int num_experts) -> Tensor")
    ops = torch.ops.kunlun_signature_test
    states = found(
        "xspeedgate_ops",
        solve_tril_ns=ops.solve_tril_ns,
        rope_vit=ops.rope_vit,
        moe_active_expert_balance=ops.moe_active_expert_balance,
    )
    assert {name.split(".")[1]: state for name, (state, _) in states.items()} == {
        "solve_tril_ns": "fits",
        "rope_vit": "fits",
        "moe_active_expert_balance": "differs",
    }


def test_a_library_that_differs_is_told_when_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def swiglu(x: Any, out: Any) -> None: ...

    modules = {name: types.ModuleType(name) for name in ("cocopod", "kunlun_ops", "xspeedgate_ops")}
    modules["kunlun_ops"].swiglu = swiglu  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setenv("VLLM_KUNLUN_VENDOR", "wheels")
    monkeypatch.setattr(library.logger, "propagate", True)
    with caplog.at_level(logging.WARNING, library.logger.name):
        library.libraries()
    (record,) = caplog.records
    for part in ("kunlun_ops.swiglu refuses our call", "it takes (x", "vllm-kunlun doctor"):
        assert part in record.getMessage()
