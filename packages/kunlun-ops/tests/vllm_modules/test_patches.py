# SPDX-License-Identifier: Apache-2.0
"""The ledger entries of this wheel: each names a source that the installed vLLM has."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from vllm_kunlun.ops.vllm_modules import upstream
from vllm_kunlun.ops.vllm_modules.patches import patches
from vllm_kunlun.ops.vllm_modules.redirects import redirects

ENTRIES = [*patches(), *redirects()]


def test_names_and_targets_are_unique() -> None:
    assert len({each.name for each in patches()}) == len(patches()) == 9
    assert len({each.target for each in ENTRIES}) == len(ENTRIES) == 12


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.target)
def test_the_link_leads_to_the_replaced_source(entry: Any) -> None:
    _, _, path = entry.upstream.partition("/blob/v0.15.1/")
    installed = Path(importlib.util.find_spec("vllm").origin).parents[1]
    assert (installed / path).is_file()
    assert path == entry.target.partition(":")[0].replace(".", "/") + ".py"


def test_the_range_holds_the_installed_vllm() -> None:
    assert metadata.version("vllm").partition("+")[0] in SpecifierSet(upstream.RANGE)
