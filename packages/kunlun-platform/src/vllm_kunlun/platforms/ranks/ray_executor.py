# SPDX-License-Identifier: Apache-2.0
"""vLLM's executor for Ray, and a watch over its workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any

from vllm.logger import init_logger
from vllm.v1.executor.ray_executor import RayDistributedExecutor

from vllm_kunlun.platforms import envs

__all__ = ["KunlunRayExecutor", "name_cards"]

logger = init_logger("vllm.kunlun.ranks")

INTERVAL_SECONDS = 2.0
LAST_SECONDS = 5.0

_OWN_END = "ray.kill"
"""In what Ray says of a worker that the engine itself ended."""


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
        self._watch = _Watch(list(self.workers))
        Thread(target=self._watch.run, args=(callback,), daemon=True, name="ray-watch").start()

    def shutdown(self) -> None:
        """As vLLM's; a step that failed may come here before the watch has asked again."""
        if hasattr(self, "_watch"):
            self._watch.look_last()
        super().shutdown()


def name_cards(_worker: object) -> None:
    """Let Ray find this worker's card: it looks for its number in the variable of NVIDIA's GPUs.

    The device is in use by now, so that the variable changes nothing else.
    """
    if envs.XPU_VISIBLE_DEVICES is not None:
        envs.set_default("CUDA_VISIBLE_DEVICES", envs.XPU_VISIBLE_DEVICES)


class _Watch:
    """Names the first worker that is found to be gone, once."""

    def __init__(self, workers: list[Any]) -> None:
        self._workers = workers
        self._named = Lock()

    def run(self, callback: Callable[[], None]) -> None:
        """Ask until a worker is gone or Ray is; ``callback`` unless the engine itself ended it."""
        from ray import is_initialized

        while is_initialized():
            if error := self._look():
                if _OWN_END not in error:
                    callback()
                return
            time.sleep(INTERVAL_SECONDS)

    def look_last(self) -> None:
        """Ask once more, before the engine ends its workers."""
        from ray import is_initialized

        if is_initialized():
            self._look(LAST_SECONDS)

    def _look(self, seconds: float | None = None) -> str | None:
        """What Ray says of the first worker that is gone. One that says nothing is not."""
        from ray import exceptions, get

        for rank, worker in enumerate(self._workers):
            try:
                get(worker.get_node_ip.remote(), timeout=seconds)
            except exceptions.GetTimeoutError:
                continue
            except exceptions.RayActorError as error:
                said = " ".join(str(error).split())
                if _OWN_END not in said and self._named.acquire(blocking=False):
                    logger.error(
                        "The worker of rank %d is gone, and with it the server ends: %s Why it "
                        "ended is in the logs of Ray on its host (/tmp/ray/session_latest/logs); "
                        "`ray status` shows which hosts are left.",
                        rank,
                        said,
                    )
                return said
        return None
