# SPDX-License-Identifier: Apache-2.0
"""Workers on several hosts, which Ray runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms import envs

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["update"]

# Ray would show each worker one card by CUDA_VISIBLE_DEVICES; vLLM counts all cards of the host.
_LEAVE_CARDS_ALONE = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"


def update(config: VllmConfig) -> None:
    """Our executor in place of vLLM's, and the server's variables for workers on every host.

    Ray sets them before the worker imports torch, where the vendor's runtime reads them; vLLM's own
    copy of the variables comes after.
    """
    parallel = config.parallel_config
    if parallel.distributed_executor_backend != "ray":
        return
    from vllm_kunlun.platforms.ranks.ray_executor import KunlunRayExecutor

    parallel.distributed_executor_backend = KunlunRayExecutor
    if parallel.ray_runtime_env is None:
        parallel.ray_runtime_env = {"env_vars": {**envs.shared(), _LEAVE_CARDS_ALONE: "1"}}
