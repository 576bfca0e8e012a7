# SPDX-License-Identifier: Apache-2.0
"""Ways of spreading the work that the vendor's functions do not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["EXCHANGES", "check"]

EXCHANGES = ("allgather_reducescatter", "naive")
"""vLLM's names of how data-parallel ranks exchange tokens; both are ours, and the same."""


def check(config: VllmConfig) -> None:
    """Refuse context parallelism, dual batch overlap, and the exchanges of CUDA libraries.

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
    if parallel.all2all_backend not in EXCHANGES:
        raise UnsupportedError(
            f"--all2all-backend {parallel.all2all_backend} is a library of CUDA. Leave it out: "
            "ranks gather each other's tokens and add up what their experts make of them."
        )
