# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries for drafters."""

from __future__ import annotations

from vllm.platforms import current_platform

from vllm_kunlun.ops.speculation.patches import patches
from vllm_kunlun.platforms.ledger import patch_ledger

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place


def test_the_patches_are_in_place() -> None:
    states = {status.patch.name: status.state for status in patch_ledger.report()}
    assert {patch.name: states[patch.name] for patch in patches()} == {
        patch.name: "active" for patch in patches()
    }
