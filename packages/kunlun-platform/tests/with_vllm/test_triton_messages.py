# SPDX-License-Identifier: Apache-2.0
"""The messages as vLLM logs them, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

_IMPORT = """
import importlib
from vllm.platforms import current_platform
current_platform.device_type
experts = "vllm.model_executor.layers.fused_moe"
importlib.import_module(f"{experts}.config")
try:
    importlib.import_module(f"{experts}.gpt_oss_triton_kernels_moe")
except ModuleNotFoundError:  # its place in 0.33
    importlib.import_module(f"{experts}.experts.gpt_oss_triton_kernels_moe")
"""


def _said(code: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "VLLM_KUNLUN_DEVICE": "emulated", "VLLM_LOGGING_LEVEL": "INFO"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return ran.stdout + ran.stderr


def test_no_start_says_error() -> None:
    assert "ERROR" not in _said(_IMPORT)


def test_without_the_filter_vllm_would_say_it_twice() -> None:
    keep = "from vllm_kunlun.platforms import triton_messages\ntriton_messages._LOGGERS = ()\n"
    assert _said(keep + _IMPORT).count("Failed to import Triton kernels.") == 2
