# SPDX-License-Identifier: Apache-2.0
"""The entries as the wheel provides them. What each is for is held in the vendor's pairing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vllm_kunlun.platforms import torch25, version
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.ledger.entries import Patch
from vllm_kunlun.platforms.torch25.patches import patches


def test_the_wheel_provides_them() -> None:
    found = patch_ledger.collect()
    assert [found[entry.name] for entry in patches()] == list(patches())


def test_only_imports_stop_the_start() -> None:
    fatal = {entry.name for entry in patches() if not entry.only_compilation}
    assert fatal == {"torch25-custom-graph-pass", "torch25-schema-types", "torch25-wrap-triton"}


@pytest.mark.parametrize(
    ("installed", "applies"),
    [("2.5.1", True), ("2.5.1+cu121.vendor", True), ("2.6.0", False), ("2.9.1", False)],
)
def test_they_are_for_torch_before_2_6(monkeypatch, installed: str, applies: bool) -> None:
    monkeypatch.setattr(version, "installed_torch", lambda: installed)
    assert torch25.is_installed() is applies
    of_any_vllm = [entry for entry in patches() if entry.vllm_range == version.EVERY]
    states = {status.state for status in patch_ledger.report(of_any_vllm)}
    assert ("out of range" not in states) is applies
    assert applies or states == {"out of range"}


@pytest.mark.skipif(not torch25.is_installed(), reason="hashes are of torch 2.5.1")
def test_hashes_are_of_the_installed_torch() -> None:
    replaced = [
        entry
        for entry in patches()
        if isinstance(entry, Patch) and entry.holds(version.installed_vllm())
    ]
    assert len(replaced) >= 4
    assert {p.target: source_sha256(p.target) for p in replaced} == {
        p.target: p.sha256 for p in replaced
    }


def test_registering_them_imports_no_torch() -> None:
    program = """
import sys
from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.torch25.patches import patches
version.installed_torch = lambda: "2.5.1"
patch_ledger._problem = lambda entry: None  # hashes are of torch 2.5.1
patch_ledger.install([each for each in patches() if each.vllm_range == version.EVERY])
assert not patch_ledger.left_out()
print([name for name in ("torch", "vllm", "numpy") if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout.strip() == "[]"
