# SPDX-License-Identifier: Apache-2.0
"""Lines that vLLM logs as errors at each start without triton's kernels, kept from users.

vLLM carries triton kernels for gpt-oss and tries to import them on every platform. Neither the card
nor its emulation runs triton; our own layers take the kernels' place, so nothing is missing.
"""

from __future__ import annotations

import logging

__all__ = ["hide"]

_LOGGERS = (
    "vllm.model_executor.layers.fused_moe.config",
    "vllm.model_executor.layers.fused_moe.gpt_oss_triton_kernels_moe",
    "vllm.model_executor.layers.fused_moe.experts.gpt_oss_triton_kernels_moe",
    "vllm.model_executor.layers.fused_moe.oracle.mxfp4",
)
"""The second until 0.16, the last two of 0.33."""
_MESSAGE = "Failed to import Triton kernels."


def hide() -> None:
    """Drop that message of those loggers, and nothing else. Re-entrant."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_says_something_else)


def _says_something_else(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_MESSAGE)
