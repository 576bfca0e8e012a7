# SPDX-License-Identifier: Apache-2.0
"""The card's limits: what each number is, and that it stands nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vllm_kunlun.ops.contract import limits
from vllm_kunlun.ops.contract.functions import contract

PACKAGES = Path(__file__).parents[3]

VALUES = {
    "HEAD_SIZES": (32, 64, 80, 96, 112, 120, 128, 192, 256, 512),
    "MAX_DECODE_BATCH": 1023,
    "MAX_DECODE_QUERIES": 32,
    "SUPPORTED_BLOCK_SIZES": (16, 32, 64, 128),
    "MLA_BLOCK_SIZE": 64,
    "MAX_SPARSE_QUERIES": 2,
    "MAX_FLOAT16_ROWS": 151_936,
    "CLUSTERS": 12,
    "FUSED_PAIRS": 400,
    "SMALL_PAIRS": 768,
    "FUSED_ACTIVATION_TOKENS": 1024,
    "DEQUANTISE_TOKENS": 256,
    "FAST_LAYOUT_COLUMNS": 64,
    "CHUNK_TOKENS": 64,
    "MAX_FLASH_ATTN_HEAD_SIZE": 256,
}
"""From the vendor's documents and reports: the emulator and its callers read one home, so that a
wrong number there would be wrong on both sides and seen by no other test."""


def test_each_limit_has_its_value() -> None:
    assert {each.name: each.value for each in limits.LIMITS} == VALUES


def test_each_constant_is_described_once() -> None:
    constants = {name for name in limits.__all__ if name.isupper()} - {"LIMITS"}
    assert sorted(each.name for each in limits.LIMITS) == sorted(constants)
    for each in limits.LIMITS:
        assert getattr(limits, each.name) is each.value


def test_each_limit_is_of_functions_in_the_contract() -> None:
    sections = {each.name: each.section for each in contract()}
    for each in limits.LIMITS:
        assert set(each.functions) <= set(sections)
    assert [each.section for each in limits.LIMITS] == sorted(
        each.section for each in limits.LIMITS
    )


def homes(tree: ast.Module, wanted: set[str]) -> set[str]:
    """Names of limits that a module gives a value to."""
    targets = [
        target
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return {each.id for each in targets if isinstance(each, ast.Name)} & wanted


@pytest.mark.skipif(not (PACKAGES / "kunlun-platform").is_dir(), reason="not in a checkout")
def test_each_limit_has_one_home() -> None:
    found: dict[str, list[str]] = {name: [] for name in VALUES}
    for path in PACKAGES.glob("**/src/**/*.py"):
        for name in homes(ast.parse(path.read_text()), set(VALUES)):
            found[name].append(path.name)
    assert {name: files for name, files in found.items() if files != ["limits.py"]} == {}
