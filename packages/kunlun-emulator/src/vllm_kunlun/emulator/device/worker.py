# SPDX-License-Identifier: Apache-2.0
"""The worker of an emulated device. A card has one of its own (card_worker)."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_random_seed
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.gpu_worker import init_worker_distributed_environment
from vllm.v1.worker.workspace import init_workspace_manager

from vllm_kunlun.emulator.device import half_products, huge_pages, linear_packing
from vllm_kunlun.emulator.device.model_runner import KunlunModelRunner
from vllm_kunlun.emulator.device.recorded_steps import RecordedSteps
from vllm_kunlun.platforms import envs, memory, weight_memory
from vllm_kunlun.platforms.checks import positions
from vllm_kunlun.platforms.compiler import KunlunCompiler
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import renewal
from vllm_kunlun.platforms.vllm_compat import host_worker

__all__ = ["KunlunWorker"]

logger = init_logger("vllm.kunlun.worker")


class KunlunWorker(CPUWorker):
    """vLLM's CPU worker without vLLM's compiled CPU kernels, with a device's view of memory."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        host_worker.make(self, *arguments, **keywords)

    def init_device(self) -> None:
        threads = max(1, torch.get_num_threads() // self.parallel_config.local_world_size)
        torch.set_num_threads(threads)
        self.device = torch.device("cpu")
        init_worker_distributed_environment(
            self.vllm_config,
            self.rank,
            self.distributed_init_method,
            self.local_rank,
            current_platform.dist_backend,
        )
        set_random_seed(self.model_config.seed)
        init_workspace_manager(self.device, num_ubatches=1)
        half_products.install(self.model_config.dtype)
        KunlunCompiler.runner = RecordedSteps if envs.VLLM_KUNLUN_RECORD_STEPS else None
        self._used_before_model_bytes = memory.used_bytes(None, on_card=False)
        self.model_runner = KunlunModelRunner(self.vllm_config, self.device)

    def _maybe_get_memory_pool_context(self, tag: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # 0.33 looks for CUDA's allocator on every other device

    def load_model(self, **options: Any) -> None:
        """Load the model and pack its linear layers.

        Raises:
            UnsupportedError: a request may be longer than the model's tables of positions.
        """
        super().load_model(**options)
        positions.check(self.model_runner.get_model(), self.model_config.max_model_len)
        weight_memory.report(
            weight_memory.weight_bytes(*weight_memory.models_of(self.model_runner)),
            int(memory.used_bytes(None, on_card=False) - self._used_before_model_bytes),
            self.model_config.dtype,
        )
        if envs.VLLM_KUNLUN_PACK_LINEAR:
            started = time.perf_counter()
            packed = linear_packing.pack(self.model_runner.model)
            seconds = time.perf_counter() - started
            logger.info("Packed %d linear layers for this host in %.1f s.", packed, seconds)
        self._gather_weights()
        compiled = not self.model_config.enforce_eager
        renewal.install(self.model_runner.get_model(), self.model_config.dtype, fixed=compiled)

    def _gather_weights(self) -> None:
        """Into huge pages: most layers' weights are too small to fill one each."""
        started = time.perf_counter()
        gathered = huge_pages.gather(
            linear_packing.memory(*weight_memory.models_of(self.model_runner))
        )
        seconds = time.perf_counter() - started
        logger.debug("%.0f MiB of weights lie in huge pages (%.1f s).", gathered / 2**20, seconds)

    def save_sharded_state(self, *arguments: Any, **keywords: Any) -> None:
        """As vLLM's. Raises: UnsupportedError: a layer's weights were converted."""
        with renewal.plain(self.model_runner.get_model()):
            super().save_sharded_state(*arguments, **keywords)

    @torch.inference_mode()
    def determine_available_memory(self) -> int:
        """Bytes for the KV cache: the device's share, less what model and activations take.

        No more than twice what ``max_num_seqs`` requests of ``max_model_len`` tokens fill: even
        cached prefixes do not need more, and the host may. Where ``--kv-cache-memory-bytes`` says
        how many, they are these, and no forward pass is made to find out: the one that warms the
        model up compiles it.

        Raises:
            UnsupportedError: nothing is left; the message names the settings.
        """
        cache = self.cache_config
        if cache.kv_cache_memory_bytes:
            return int(cache.kv_cache_memory_bytes)
        self.model_runner.profile_run()
        ranks = self.parallel_config.local_world_size
        total = current_platform.get_device_total_memory() // ranks
        taken = memory.used_bytes(None, on_card=False) - self._used_before_model_bytes
        available = int(total * cache.gpu_memory_utilization - taken)
        if available <= 0:
            raise UnsupportedError(
                f"the model takes {taken / 2**30:.1f} GiB of the emulated device's "
                f"{total / 2**30:.1f} GiB x {cache.gpu_memory_utilization} and leaves nothing for "
                "the KV cache. Set VLLM_KUNLUN_EMULATED_MEMORY_GIB higher, or raise "
                "--gpu-memory-utilization."
            )
        specs = self.model_runner.get_kv_cache_spec().values()
        a_request = sum(spec.max_memory_usage_bytes(self.vllm_config) for spec in specs)
        return min(available, 2 * a_request * self.scheduler_config.max_num_seqs)

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        super().initialize_from_config(kv_cache_config)
        for cache in self.model_runner.kv_caches:
            for tensor in cache if isinstance(cache, list) else (cache,):
                storage = tensor.untyped_storage()
                huge_pages.advise(storage.data_ptr(), storage.nbytes())

    @torch.inference_mode()  # vLLM 0.33 runs a picture's encoder here, too, and sets no mode for it
    def compile_or_warm_up_model(self) -> Any:
        set_random_seed(self.model_config.seed)
        self.model_runner.warming_up_model()
        set_random_seed(self.model_config.seed)
        return host_worker.compilation_times(self.vllm_config.compilation_config)

    def sleep(self, level: int = 1) -> None:
        """Raises: UnsupportedError: always, as does :meth:`wake_up`."""
        raise UnsupportedError(
            "sleep: sleep mode is not available on the emulated device. Stop the server instead."
        )

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Raises: UnsupportedError: always."""
        raise UnsupportedError("wake_up: sleep mode is not available on the emulated device.")
