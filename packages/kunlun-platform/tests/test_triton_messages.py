# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest

from vllm_kunlun.platforms import triton_messages


def test_one_message_of_some_loggers_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    triton_messages.hide()
    triton_messages.hide()
    layers = "vllm.model_executor.layers.fused_moe"
    said = "Failed to import Triton kernels. Please make sure your triton version is compatible."
    names = ("config", "gpt_oss_triton_kernels_moe", "experts.gpt_oss_triton_kernels_moe",
             "oracle.mxfp4", "layer")  # fmt: skip
    for name in names:
        logger = logging.getLogger(f"{layers}.{name}")
        logger.error(f"{said} Error: %s", "none")
        logger.error("Failed otherwise.")
    said_by = [(record.name, record.msg) for record in caplog.records]
    assert said_by == [
        *((f"{layers}.{name}", "Failed otherwise.") for name in names[:-1]),
        (f"{layers}.layer", f"{said} Error: %s"),
        (f"{layers}.layer", "Failed otherwise."),
    ]
