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
    assert [found[entry.name] for entry in patches()] == list(patches())


@pytest.mark.parametrize("entry", patches(), ids=lambda each: each.name)
def test_hashes_are_of_the_installed_vllm(entry) -> None:
    assert entry.holds(version.installed_vllm())
    assert source_sha256(entry.target) in entry.expected_sha256()
