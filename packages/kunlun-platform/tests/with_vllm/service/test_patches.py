# SPDX-License-Identifier: Apache-2.0
"""The entries against the installed vLLM."""

from __future__ import annotations

import pytest

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.service.patches import patches


def test_the_wheel_provides_them() -> None:
    found = patch_ledger.collect()
    names = {entry.name for entry in patches()}
    assert [found[name] for name in names if found[name] not in patches()] == []
    here = [entry for entry in patches() if entry.out_of_range() is None]
    assert [found[entry.name] for entry in here] == here


@pytest.mark.parametrize("entry", patches(), ids=lambda each: f"{each.name}-{each.vllm_range}")
def test_hashes_are_of_the_installed_vllm(entry) -> None:
    if entry.holds(version.installed_vllm()):
        assert source_sha256(entry.target) in entry.expected_sha256()
    else:
        others = [each for each in version.WRITTEN_FOR if each in entry.ranges]
        assert others or entry.ranges == (version.UNTIL_0_16,), "an entry of no release"
