# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries: in place, called as what they replace, and true in what they say."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest
from vllm.platforms import current_platform

from vllm_kunlun.ops.vllm_modules.patches import patches
from vllm_kunlun.ops.vllm_modules.redirects import redirects
from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.entries import out_of_range
from vllm_kunlun.platforms.ledger.patch_ledger import Addition, Patch

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place

APPLIED = [each for each in patches() if out_of_range(each) is None]
ENTRIES = pytest.mark.parametrize(
    "patch",
    [each for each in APPLIED if isinstance(each, Patch)],
    ids=lambda each: each.name,
)


REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
    if hasattr(resolve(patch.target), "register_warmup"):
        pytest.skip("the launcher of a compiled kernel, which hands on what it is given")
    signature = inspect.signature(resolve(patch.replacement))
    ours = signature.parameters
    theirs = inspect.signature(patch_ledger.original(patch.name)).parameters
    named = [name for name, each in ours.items() if each.kind not in REST]
    if len(named) < len(ours):  # what one release has more than another is taken by its name
        assert named[1:] == list(theirs)[1 : len(named)]
        signature.bind(*named, **dict.fromkeys(list(theirs)[len(named) :]))
        return
    assert list(ours) == list(theirs)
    assert {name: each.default for name, each in ours.items()} == {
        name: each.default for name, each in theirs.items()
    }


REPLACED = [*patches(), *redirects()]


@pytest.mark.parametrize("release", ["0.15.1", "0.16.0", "0.33.0"])
def test_names_and_targets_are_unique_in_a_release(release: str) -> None:
    """An entry may have another replacement in another release, under the same name."""
    entries = [each for each in patches() if each.holds(release)]
    assert len({each.name for each in entries}) == len(entries)
    replaced = [each for each in REPLACED if each.holds(release)]
    assert len({each.target for each in replaced}) == len(replaced)


@pytest.mark.parametrize("entry", REPLACED, ids=lambda entry: entry.target)
def test_the_link_leads_to_the_replaced_source(entry: Any) -> None:
    release, _, path = entry.upstream.partition("/blob/v")[2].partition("/")
    assert entry.holds(release)
    if version.tested_as(version.installed_vllm()) != version.tested_as(release):
        pytest.skip("it leads to another release")
    installed = Path(importlib.util.find_spec("vllm").origin).parents[1]
    assert (installed / path).is_file()
    if isinstance(entry, Addition):
        return  # to a table that the module got from elsewhere
    assert path == entry.target.partition(":")[0].replace(".", "/") + ".py"


@pytest.mark.parametrize("release", version.TESTED_VLLM)
def test_some_entry_is_for_each_tested_release(release: str) -> None:
    assert any(each.holds(release) for each in REPLACED)


def test_tables_have_what_was_added() -> None:
    for each in APPLIED:
        if isinstance(each, Addition):
            (found,) = patch_ledger.report([each])
            assert found.state == "active", found
