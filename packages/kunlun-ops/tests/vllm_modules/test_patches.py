# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries: in place, called as what they replace, and true in what they say."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from vllm.platforms import current_platform

from vllm_kunlun.ops.vllm_modules import upstream
from vllm_kunlun.ops.vllm_modules.patches import patches
from vllm_kunlun.ops.vllm_modules.redirects import redirects
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.patch_ledger import Patch

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place

ENTRIES = pytest.mark.parametrize("patch", patches(), ids=lambda each: each.name)


def resolve(reference: str) -> object:
    module, _, names = reference.partition(":")
    found: object = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


@ENTRIES
def test_it_is_in_place(patch: Patch) -> None:
    assert resolve(patch.target) is resolve(patch.replacement)


@ENTRIES
def test_it_takes_the_arguments_of_what_it_replaces(patch: Patch) -> None:
    if not callable(resolve(patch.target)):  # imported, so that the ledger knows the original
        pytest.skip("a compiled kernel, which is called through its grid")
    ours, theirs = (
        inspect.signature(each).parameters
        for each in (resolve(patch.replacement), patch_ledger.original(patch.name))
    )
    assert list(ours) == list(theirs)
    assert {name: each.default for name, each in ours.items()} == {
        name: each.default for name, each in theirs.items()
    }


REPLACED = [*patches(), *redirects()]


def test_names_and_targets_are_unique() -> None:
    assert len({each.name for each in patches()}) == len(patches())
    assert len({each.target for each in REPLACED}) == len(REPLACED)


@pytest.mark.parametrize("entry", REPLACED, ids=lambda entry: entry.target)
def test_the_link_leads_to_the_replaced_source(entry: Any) -> None:
    _, _, path = entry.upstream.partition("/blob/v0.15.1/")
    installed = Path(importlib.util.find_spec("vllm").origin).parents[1]
    assert (installed / path).is_file()
    assert path == entry.target.partition(":")[0].replace(".", "/") + ".py"


def test_the_range_holds_the_installed_vllm() -> None:
    assert metadata.version("vllm").partition("+")[0] in SpecifierSet(upstream.RANGE)
