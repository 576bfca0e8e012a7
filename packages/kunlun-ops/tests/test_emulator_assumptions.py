# SPDX-License-Identifier: Apache-2.0
"""The table of assumptions names functions that exist, each point once."""

from __future__ import annotations

from vllm_kunlun.ops.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops.emulator.assumptions import ASSUMPTIONS


def test_names_are_unique() -> None:
    ids = [each.id for each in ASSUMPTIONS]
    assert len(set(ids)) == len(ids)


def test_functions_are_emulated() -> None:
    emulated = {f"kunlun_ops.{name}" for name in kunlun_ops.__all__}
    emulated |= {f"xspeedgate_ops.{name}" for name in xspeedgate_ops.__all__}
    for each in ASSUMPTIONS:
        assert set(each.function.split(", ")) <= emulated, each.id
        assert each.contract_tag in ("I", "H")
        assert each.statement
        assert each.probe
