# SPDX-License-Identifier: Apache-2.0
"""The contract as data, against what there is: emulator, adapter, cases, assumptions."""

from __future__ import annotations

import pytest

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.inventory import assumptions_about, emulated
from vllm_kunlun.ops.contract.functions import VendorFunction, contract, select
from vllm_kunlun.platforms.errors import UnsupportedError

LIVE = [each for each in contract() if each.live]


def lacks(each: VendorFunction) -> list[str]:
    """What a live function must have and has not."""
    # A probe is no case: it looks at one point of a function, not at what it computes.
    has = {
        "the arguments of our call": each.call is not None,
        "an emulation": each.name in emulated(),
        "an adapter": hasattr(vendor_ops, each.adapter_name),
        "conformance cases": any(case.function == each.name for case in CASES),
        "an assumption for what is not certain": each.tag == "C" or assumptions_about(each.name),
    }
    return [what for what, there in has.items() if not there]


@pytest.mark.parametrize("each", LIVE, ids=lambda each: each.name)
def test_a_live_function_lacks_nothing(each: VendorFunction) -> None:
    assert not (missing := lacks(each)), f"{each.name} lacks {', '.join(missing)}"


def test_names_are_unique_and_known_here() -> None:
    names = [each.name for each in contract()]
    assert len(set(names)) == len(names)
    assert set(names) >= emulated()
    assert set(names) >= {case.function for case in CASES}
    assert {each.surface for each in contract()} == {
        "custom_ops", "flash_attn", "kunlun_ops", "xspeedgate_ops"
    }  # fmt: skip


def test_select_by_name_by_pattern_and_in_the_contracts_order() -> None:
    assert select([]) == contract()
    assert [each.name for each in select(["split_norm_rope_neox"])] == [
        "kunlun_ops.split_norm_rope_neox",
        "xspeedgate_ops.split_norm_rope_neox",
    ]
    assert [each.name for each in select(["kunlun_ops.rmsnorm", "reshape_and_cache*"])] == [
        "kunlun_ops.reshape_and_cache_flash",
        "kunlun_ops.reshape_and_cache",
        "kunlun_ops.rmsnorm",
    ]


def test_an_unknown_name_is_refused_with_near_ones() -> None:
    with pytest.raises(UnsupportedError, match=r"called 'rms_norm'.*Did you mean.*rmsnorm"):
        select(["rmsnorm", "rms_norm"])
    with pytest.raises(UnsupportedError, match="ops list"):
        select(["zzzzzz"])
