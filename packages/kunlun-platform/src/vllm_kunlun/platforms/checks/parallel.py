# SPDX-License-Identifier: Apache-2.0
"""Ways of spreading the work that the vendor's functions do not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["check"]


def check(config: VllmConfig) -> None:
    """Refuse context parallelism and dual batch overlap.

    Raises:
        UnsupportedError: naming the option and the alternative.
    """
    parallel = config.parallel_config
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        raise UnsupportedError(
            "context parallelism needs log-sum-exp from the decode attention function, which the "
            "vendor's does not return. Use --tensor-parallel-size."
        )
    if parallel.enable_dbo:
        raise UnsupportedError(
            "--enable-dbo (dual batch overlap) is built on CUDA streams of DeepEP. Leave it out."
        )
