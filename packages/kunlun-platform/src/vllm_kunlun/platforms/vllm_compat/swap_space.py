# SPDX-License-Identifier: Apache-2.0
"""Host memory that vLLM sets aside for swapped requests: an option until 0.16, and gone in 0.33."""

from __future__ import annotations

from vllm_kunlun.platforms import version

__all__ = ["none_taken"]

_IS_GONE = version.installed_is_from("0.33")


def none_taken() -> dict[str, int]:
    """Fields of ``EngineArgs`` for an engine that is configured and never runs.

    vLLM refuses a configuration that would set aside more than the host has.
    """
    return {} if _IS_GONE else {"swap_space": 0}
