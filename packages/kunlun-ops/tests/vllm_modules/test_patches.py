# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries for functions: in place, and called as what they replace."""

from __future__ import annotations

import importlib
import inspect

import pytest
from vllm.platforms import current_platform

from vllm_kunlun.ops.vllm_modules.patches import patches
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
    resolve(patch.target)  # imported, so that the ledger knows the original
    ours, theirs = (
        inspect.signature(each).parameters
        for each in (resolve(patch.replacement), patch_ledger.original(patch.name))
    )
    assert list(ours) == list(theirs)
    assert {name: each.default for name, each in ours.items()} == {
        name: each.default for name, each in theirs.items()
    }
