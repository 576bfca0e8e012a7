# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest

from vllm_kunlun.platforms import triton_messages


def test_one_message_of_two_loggers_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    triton_messages.hide()
    triton_messages.hide()
    layers = "vllm.model_executor.layers.fused_moe"
    said = "Failed to import Triton kernels. Please make sure your triton version is compatible."
    for name in ("config", "gpt_oss_triton_kernels_moe", "layer"):
        logger = logging.getLogger(f"{layers}.{name}")
        logger.error(f"{said} Error: %s", "none")
        logger.error("Failed otherwise.")
    assert [(record.name.rpartition(".")[2], record.msg[:20]) for record in caplog.records] == [
        ("config", "Failed otherwise."),
        ("gpt_oss_triton_kernels_moe", "Failed otherwise."),
        ("layer", "Failed to import Tri"),
        ("layer", "Failed otherwise."),
    ]
