# SPDX-License-Identifier: Apache-2.0
"""Whoever starts an engine's processes gets our function."""

from __future__ import annotations

from vllm.distributed.device_communicators import shm_broadcast
from vllm.entrypoints.cli import serve
from vllm.v1 import utils
from vllm.v1.engine import core_client
from vllm.v1.engine import utils as engine_utils

from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.starting import engines, sockets
from vllm_kunlun.platforms.starting.patches import patches


def test_the_start_of_engines_is_ours():
    for status in patch_ledger.report(patches()):
        assert status.state == "active", status
    assert core_client.launch_core_engines is engines.launch_core_engines
    assert serve.launch_core_engines is engines.launch_core_engines


def test_so_are_the_paths_of_sockets():
    for module in (shm_broadcast, utils, engine_utils):
        assert module.get_open_zmq_ipc_path is sockets.get_open_zmq_ipc_path
