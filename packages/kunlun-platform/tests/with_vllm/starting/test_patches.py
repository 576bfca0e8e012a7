# SPDX-License-Identifier: Apache-2.0
"""Whoever starts an engine's processes gets our function."""

from __future__ import annotations

from vllm.entrypoints.cli import serve
from vllm.v1.engine import core_client

from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.starting import engines
from vllm_kunlun.platforms.starting.patches import patches


def test_the_start_of_engines_is_ours():
    (status,) = patch_ledger.report(patches())
    assert status.state == "active", status
    assert core_client.launch_core_engines is engines.launch_core_engines
    assert serve.launch_core_engines is engines.launch_core_engines
