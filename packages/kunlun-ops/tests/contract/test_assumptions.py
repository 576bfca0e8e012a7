# SPDX-License-Identifier: Apache-2.0
"""The table of assumptions names functions that exist, each point once."""

from __future__ import annotations

from vllm_kunlun.emulator import flash_attn, kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS


def test_names_are_unique() -> None:
    ids = [each.id for each in ASSUMPTIONS]
    assert len(set(ids)) == len(ids)


def test_functions_are_emulated() -> None:
    surfaces = (flash_attn, kunlun_ops, xspeedgate_ops)
    emulated = {
        f"{surface.__name__.rsplit('.', 1)[1]}.{name}"
        for surface in surfaces
        for name in surface.__all__
    }
    for each in ASSUMPTIONS:
        assert set(each.function.split(", ")) <= emulated, each.id
        assert each.contract_tag in ("I", "H")
        assert each.statement
        assert each.probe
