# SPDX-License-Identifier: Apache-2.0
"""The engine: its worker, its batch, its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.logger import init_logger

from vllm_kunlun.platforms import emulator, envs
from vllm_kunlun.platforms.card.limits import MAX_DECODE_BATCH
from vllm_kunlun.platforms.vllm_compat.step_on_host import keep_lengths_exact

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["WORKER_ON_CARD", "update", "update_for_emulation"]

logger = init_logger("vllm.kunlun.configuration")

WORKER_ON_CARD = "vllm_kunlun.platforms.card.worker.KunlunCardWorker"


def update(config: VllmConfig, *, on_card: bool) -> None:
    """What holds with and without a card.

    Raises:
        MissingWheelError: without a card, the wheel of its emulator is not installed.
    """
    if config.model_config is not None:
        # Cascade attention is a kernel of another backend; ours has no shared-prefix pass.
        config.model_config.disable_cascade_attn = True
    keep_lengths_exact(config)
    scheduler = config.scheduler_config
    if scheduler.max_num_seqs > MAX_DECODE_BATCH:
        logger.warning(
            "--max-num-seqs %d is above what the decode attention function takes: using %d.",
            scheduler.max_num_seqs,
            MAX_DECODE_BATCH,
        )
        scheduler.max_num_seqs = MAX_DECODE_BATCH
    parallel = config.parallel_config
    parallel.disable_custom_all_reduce = True
    if parallel.worker_cls == "auto":
        parallel.worker_cls = WORKER_ON_CARD if on_card else emulator.name_of("worker")


def update_for_emulation(config: VllmConfig) -> None:
    """What holds where the host is the device."""
    if not envs.VLLM_KUNLUN_EMULATED_ASYNC_SCHEDULING:
        # No step is in flight that the next one could be made beside.
        config.scheduler_config.async_scheduling = False
    config.parallel_config.distributed_executor_backend = (
        config.parallel_config.distributed_executor_backend
        or ("mp" if config.parallel_config.world_size > 1 else "uni")
    )
    # A forked engine would inherit OpenMP threads that no longer exist.
    envs.set_default("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    envs.set_default("VLLM_DISABLE_SHARED_EXPERTS_STREAM", "1")
