# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries for modules: in place, and every name of vLLM's own is there."""

from __future__ import annotations

import importlib

import pytest
from vllm.platforms import current_platform

from vllm_kunlun.ops.vllm_modules.redirects import redirects
from vllm_kunlun.platforms.ledger import import_hook
from vllm_kunlun.platforms.ledger.import_hook import Redirect

assert current_platform.is_out_of_tree()  # asked first: it puts the redirects in place

ENTRIES = pytest.mark.parametrize(
    "redirect",
    [each for each in redirects() if each.out_of_range() is None],
    ids=lambda each: each.target,
)


@ENTRIES
def test_it_is_in_place(redirect: Redirect) -> None:
    assert importlib.import_module(redirect.target).__name__ == redirect.replacement


@ENTRIES
def test_every_name_of_vllms_module_is_there(redirect: Redirect) -> None:
    ours = importlib.import_module(redirect.target)
    theirs = import_hook.import_original(redirect.target)
    missing = [name for name in vars(theirs) if not hasattr(ours, name)]
    assert missing == []
