# SPDX-License-Identifier: Apache-2.0
"""Ways of spreading the work that the vendor's functions do not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["EXCHANGES", "check", "check_cards"]

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


def check_cards(config: VllmConfig) -> None:
    """Refuse more ranks on this host than ``XPU_VISIBLE_DEVICES`` names cards.

    Raises:
        UnsupportedError: naming both numbers.
    """
    parallel = config.parallel_config
    if envs.XPU_VISIBLE_DEVICES is None or parallel.nnodes_within_dp > 1 or parallel.use_ray:
        return
    if parallel.data_parallel_rank_local is not None:
        return  # an engine that was started with cards of its own
    named = len([each for each in envs.XPU_VISIBLE_DEVICES.split(",") if each])
    ranks = parallel.local_world_size * parallel.data_parallel_size_local
    if ranks > named:
        raise UnsupportedError(
            f"{ranks} ranks on this host need as many cards, and XPU_VISIBLE_DEVICES="
            f"{envs.XPU_VISIBLE_DEVICES} names {named}. Use fewer ranks (--tensor-parallel-size, "
            "--pipeline-parallel-size, --data-parallel-size), or let it name more cards."
        )
