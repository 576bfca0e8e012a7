# SPDX-License-Identifier: Apache-2.0
"""vLLM's executor for Ray, and a watch over its workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import Any

from vllm.logger import init_logger
from vllm.v1.executor.ray_executor import RayDistributedExecutor

from vllm_kunlun.platforms import envs

__all__ = ["KunlunRayExecutor", "name_cards"]

logger = init_logger("vllm.kunlun.ranks")

INTERVAL_SECONDS = 2.0


class KunlunRayExecutor(RayDistributedExecutor):
    """The server ends when a worker does, also where no request waits.

    vLLM's executor learns of a worker's death from the next step only, its health check is empty,
    and so the server would stay up and call itself healthy.
    """

    def _init_executor(self) -> None:
        # vLLM's worker compares with the name, to leave the count of its host's cards unchecked.
        self.parallel_config.distributed_executor_backend = "ray"
        super()._init_executor()
        self.collective_rpc(name_cards)

    def register_failure_callback(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once a worker has died."""
        # The workers and not this object, which must go when the engine lets go of it.
        watch = Thread(
            target=_watch, args=(list(self.workers), callback), daemon=True, name="ray-watch"
        )
        watch.start()


def name_cards(_worker: object) -> None:
    """Let Ray find this worker's card: it looks for its number in the variable of NVIDIA's GPUs.

    The device is in use by now, so that the variable changes nothing else.
    """
    if envs.XPU_VISIBLE_DEVICES is not None:
        envs.set_default("CUDA_VISIBLE_DEVICES", envs.XPU_VISIBLE_DEVICES)


def _watch(workers: list[Any], callback: Callable[[], None]) -> None:
    from ray import exceptions, get, is_initialized

    while is_initialized():
        for rank, worker in enumerate(workers):
            try:
                get(worker.get_node_ip.remote())
            except exceptions.RayActorError as error:
                if "ray.kill" in str(error):  # the engine itself ended it
                    return
                logger.error(
                    "The worker of rank %d is gone, and with it the server ends: %s Why it ended "
                    "is in the logs of Ray on its host (/tmp/ray/session_latest/logs); "
                    "`ray status` shows which hosts are left.",
                    rank,
                    " ".join(str(error).split()),
                )
                callback()
                return
        time.sleep(INTERVAL_SECONDS)
