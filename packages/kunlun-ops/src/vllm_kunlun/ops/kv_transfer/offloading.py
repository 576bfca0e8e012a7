# SPDX-License-Identifier: Apache-2.0
"""Pages of the cache kept in host memory after they have left the device's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from vllm.platforms import current_platform
from vllm.v1.attention.backend import AttentionBackend
from vllm.v1.kv_offload.abstract import LoadStoreSpec
from vllm.v1.kv_offload.cpu import CPUOffloadingSpec
from vllm.v1.kv_offload.mediums import BlockIDsLoadStoreSpec, CPULoadStoreSpec, GPULoadStoreSpec
from vllm.v1.kv_offload.worker.worker import OffloadingHandler, TransferSpec

from vllm_kunlun.ops.vllm_compat.transfer_result import TransferResult, succeeded

__all__ = ["KunlunCPUOffloadingSpec", "PageCopies"]


class KunlunCPUOffloadingSpec(CPUOffloadingSpec):
    """As vLLM's, whose copies are kernels of CUDA."""

    def get_handlers(
        self,
        kv_caches: dict[str, torch.Tensor],
        attn_backends: dict[str, type[AttentionBackend]],
    ) -> Iterator[tuple[type[LoadStoreSpec], type[LoadStoreSpec], OffloadingHandler]]:
        """Copies of pages to the host and back."""
        device = [_page_first(cache) for cache in kv_caches.values()]
        page_size = next(iter(kv_caches.values())).shape[-2]
        pages_of = {
            "device": self.gpu_block_size // page_size,
            "host": self.offloaded_block_size // page_size,
        }
        pinned = current_platform.is_pin_memory_available()
        host = [
            torch.zeros(
                (self.num_blocks * pages_of["host"], *pages.shape[1:]),
                dtype=pages.dtype,
                pin_memory=pinned,
            )
            for pages in device
        ]
        yield (
            GPULoadStoreSpec,
            CPULoadStoreSpec,
            PageCopies(device, host, pages_of["device"], pages_of["host"]),
        )
        yield (
            CPULoadStoreSpec,
            GPULoadStoreSpec,
            PageCopies(host, device, pages_of["host"], pages_of["device"]),
        )


@dataclasses.dataclass
class _Copy:
    """A copy on its way: what still has to be put into host memory once ``done`` has happened."""

    job: int
    done: torch.Event | None
    arriving: Sequence[torch.Tensor]
    pages: torch.Tensor


class PageCopies(OffloadingHandler):
    """Copies pages between two memories, of all layers, in the order in which it is asked.

    Each layer's pages are collected, moved in one piece, and put in place, so that the host never
    waits for the device: what arrives on the host is put in place by :meth:`get_finished`.

    Args:
        source: each layer's pages, ``[pages, ...]``.
        target: the same layers elsewhere, with another number of pages.
        source_pages: pages to a block of the source.
        target_pages: pages to a block of the target.
    """

    def __init__(
        self,
        source: Sequence[torch.Tensor],
        target: Sequence[torch.Tensor],
        source_pages: int,
        target_pages: int,
    ) -> None:
        self._source, self._target = source, target
        self._source_pages, self._target_pages = source_pages, target_pages
        self._running: list[_Copy] = []

    def transfer_async(self, job_id: int, spec: TransferSpec) -> bool:
        """Begin to copy the blocks that the two halves of ``spec`` name."""
        blocks = [_block_ids(half) for half in spec]
        source = _pages(blocks[0], self._source_pages)
        target = _pages(blocks[1], self._target_pages)
        # A load may begin in the midst of the first block of the host, which is the longer one.
        source = source[source.shape[0] - target.shape[0] :]
        from_device, to_device = self._source[0].is_cuda, self._target[0].is_cuda
        collected = [layer[source.to(layer.device)] for layer in self._source]
        if from_device:
            collected = [
                torch.empty_like(each, device="cpu", pin_memory=True).copy_(each, non_blocking=True)
                for each in collected
            ]
        done = None
        if to_device:
            self._put([each.pin_memory() for each in collected], target)
        if from_device or to_device:
            done = torch.Event()
            done.record()
        arriving = () if to_device else collected
        self._running.append(_Copy(job_id, done, arriving, target))
        return True

    def _put(self, layers: Sequence[torch.Tensor], pages: torch.Tensor) -> None:
        for layer, arrived in zip(self._target, layers, strict=True):
            layer[pages.to(layer.device)] = arrived.to(layer.device, non_blocking=True)

    def get_finished(self) -> list[TransferResult]:
        """The jobs that have ended since the last call."""
        finished = []
        while self._running and _happened(self._running[0].done):
            ended = self._running.pop(0)
            if ended.arriving:
                self._put(ended.arriving, ended.pages)
            finished.append(succeeded(ended.job))
        return finished

    def wait(self, job_ids: set[int]) -> None:
        """Wait until the device has done its part of ``job_ids``."""
        for each in self._running:
            if each.job in job_ids and each.done is not None:
                each.done.synchronize()


def _page_first(cache: torch.Tensor) -> torch.Tensor:
    """A view ``[pages, ...]`` of ``[2, pages, ...]`` with keys and values, or of a latent cache."""
    return cache.transpose(0, 1) if cache.dim() == 5 else cache


def _block_ids(spec: Any) -> np.ndarray[Any, Any]:
    assert isinstance(spec, BlockIDsLoadStoreSpec)
    return spec.block_ids


def _pages(blocks: np.ndarray[Any, Any], pages: int) -> torch.Tensor:
    """The numbers of all pages of ``blocks``, int64."""
    return torch.from_numpy((blocks[:, None].astype(np.int64) * pages + np.arange(pages)).ravel())


def _happened(event: torch.Event | None) -> bool:
    return event is None or bool(event.query())
