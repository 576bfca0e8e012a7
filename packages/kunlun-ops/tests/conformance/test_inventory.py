# SPDX-License-Identifier: Apache-2.0
"""What there is for a function: counted from the callers, the assumptions and the cases."""

from __future__ import annotations

import pytest

from vllm_kunlun.ops.conformance.callers import callers
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.inventory import assumptions_about, emulated, inventory
from vllm_kunlun.ops.contract.functions import select
from vllm_kunlun.platforms import emulator


def test_a_function_with_everything() -> None:
    (entry,) = inventory(select(["kunlun_ops.rms_norm_gated"]))
    assert entry.function.name == "kunlun_ops.rms_norm_gated"
    assert entry.callers == ("vllm_kunlun.ops.torch_ops.norm",)
    assert entry.cases == sum(case.function == "kunlun_ops.rms_norm_gated" for case in CASES) > 0
    assert entry.assumptions == ("gated-norm-without-gate",)
    assert entry.emulated


def test_a_function_with_nothing() -> None:
    (entry,) = inventory(select(["swap_blocks"]))
    assert entry[1:] == ((), (), 0, False)


def test_callers_go_by_the_adapters_name() -> None:
    plain, gated = inventory(select(["split_norm_rope_neox"]))
    assert gated.function.adapter_name == "split_norm_rope_neox_gated"
    assert (plain.callers, gated.callers) == (
        callers()["split_norm_rope_neox"],
        callers().get("split_norm_rope_neox_gated", ()),
    )


def test_entries_come_in_the_order_that_was_asked_for() -> None:
    asked = select(["matmul", "rmsnorm"])[::-1]
    assert [entry.function for entry in inventory(asked)] == list(asked)


def test_an_assumption_may_be_about_several_functions() -> None:
    both = {each.id for each in assumptions_about("kunlun_ops.gemma_rmsnorm")}
    assert "gemma-norm-is-2d" in both
    assert "gemma-norm-is-2d" in {
        each.id for each in assumptions_about("kunlun_ops.gemma_add_rmsnorm")
    }
    assert "gemma-norm-is-2d" not in {each.id for each in assumptions_about("kunlun_ops.rmsnorm")}


def test_functions_of_each_library_are_emulated() -> None:
    names = emulated()
    assert names >= {"kunlun_ops.rmsnorm", "flash_attn.flash_attn_func"}
    assert {name.split(".")[0] for name in names} == {"kunlun_ops", "xspeedgate_ops", "flash_attn"}


def test_without_the_emulator_nothing_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "is_installed", lambda: False)
    assert emulated() == set()
    (entry,) = inventory(select(["kunlun_ops.rmsnorm"]))
    assert not entry.emulated
