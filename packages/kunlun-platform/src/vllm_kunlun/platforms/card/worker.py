# SPDX-License-Identifier: Apache-2.0
"""The worker of a card: vLLM's GPU worker, which also measures what the weights take and says
where the capture of a graph failed."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.worker.gpu_worker import Worker

from vllm_kunlun.platforms import envs, memory, weight_memory
from vllm_kunlun.platforms.card import capture
from vllm_kunlun.platforms.checks import positions
from vllm_kunlun.platforms.errors import DeviceUnavailableError
from vllm_kunlun.platforms.loading import renewal

__all__ = ["KunlunCardWorker"]


class KunlunCardWorker(Worker):
    """vLLM's GPU worker on a card."""

    def init_device(self) -> None:
        """Take the card of this rank.

        vLLM starts each engine of data parallelism with the engine's own cards visible, as on any
        device but CUDA's, and then counts them among those of the whole host, as on CUDA's.

        Raises:
            DeviceUnavailableError: the engine sees fewer cards than it has ranks on this host.
        """
        parallel = self.parallel_config
        visible, ranks = torch.cuda.device_count(), parallel.local_world_size
        ours = parallel.distributed_executor_backend in ("mp", "uni")
        if ours and parallel.nnodes_within_dp == 1 and visible < ranks:
            raise DeviceUnavailableError(
                f"{ranks} ranks on this host need as many cards, and this engine sees {visible} "
                f"(XPU_VISIBLE_DEVICES={envs.XPU_VISIBLE_DEVICES}). Use fewer ranks "
                "(--tensor-parallel-size, --pipeline-parallel-size, --data-parallel-size), or let "
                "XPU_VISIBLE_DEVICES name more cards."
            )
        engine = parallel.data_parallel_rank_local
        if visible <= ranks:
            parallel.data_parallel_rank_local = 0
        try:
            super().init_device()
        finally:
            parallel.data_parallel_rank_local = engine

    def load_model(self) -> None:
        """Load the model, after noting what the device holds without it.

        Raises:
            UnsupportedError: a request may be longer than the model's tables of positions.
        """
        self._held_before_model_bytes = memory.held_bytes(self.device)
        super().load_model()
        positions.check(self.model_runner.get_model(), self.model_config.max_model_len)
        captured = not self.model_config.enforce_eager
        renewal.install(self.model_runner.get_model(), self.model_config.dtype, fixed=captured)

    def save_sharded_state(self, *arguments: Any, **keywords: Any) -> None:
        """As vLLM's. Raises: UnsupportedError: a layer's weights were converted."""
        with renewal.plain(self.model_runner.get_model()):
            super().save_sharded_state(*arguments, **keywords)

    def determine_available_memory(self) -> int:
        """Bytes left for the cache; also says what the weights take."""
        # After the first forward pass, since a library may convert weights when it meets them.
        available = super().determine_available_memory()
        weight_memory.report(
            weight_memory.weight_bytes(*weight_memory.models_of(self.model_runner)),
            memory.held_bytes(self.device) - self._held_before_model_bytes,
            self.model_config.dtype,
        )
        return available

    def compile_or_warm_up_model(self) -> None:
        """Warm the model up and capture its graphs.

        Raises:
            GraphCaptureError: a graph could not be captured.
        """
        self.model_runner.capture_model = capture.explained(self.model_runner)
        super().compile_or_warm_up_model()
