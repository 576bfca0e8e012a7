# SPDX-License-Identifier: Apache-2.0
"""The model runner of an emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.v1.spec_decode.eagle import SpecDecodeBaseProposer
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from vllm_kunlun.emulator.device import drafter_lengths, host_streams, untouched_memory

__all__ = ["KunlunModelRunner"]


class KunlunModelRunner(CPUModelRunner):
    """vLLM's GPU model runner on host memory.

    ``CPUModelRunner.__init__`` is skipped because it refuses speculative decoding; what it
    does besides (one tensor where the GPU runner keeps a host and a device copy) is called here.
    """

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        with host_streams.in_place():
            GPUModelRunner.__init__(self, vllm_config, device)
        self.use_cuda_graph = False
        self.cascade_attn_enabled = False
        self._postprocess_tensors()
        drafter = getattr(self, "drafter", None)
        if isinstance(drafter, SpecDecodeBaseProposer):
            drafter_lengths.separate(drafter)

    def load_model(self, *arguments: Any, **options: Any) -> None:
        # The GPU runner's loader also loads drafters.
        GPUModelRunner.load_model(self, *arguments, **options)

    def _update_states(self, *arguments: Any, **keywords: Any) -> Any:
        with host_streams.in_place():  # it makes the generators of new requests
            return super()._update_states(*arguments, **keywords)

    def _sample(self, *arguments: Any, **keywords: Any) -> Any:
        # What is drawn for a request whose prompt goes on in the next step is taken back later.
        drawn_too_early = np.flatnonzero(self.discard_request_mask.np[: self.input_batch.num_reqs])
        for request in self.input_batch.generators.keys() & drawn_too_early.tolist():
            self.input_batch.generators[request].keep()
        return super()._sample(*arguments, **keywords)

    def initialize_kv_cache_tensors(self, *arguments: Any, **keywords: Any) -> Any:
        with untouched_memory.zeros():
            return super().initialize_kv_cache_tensors(*arguments, **keywords)

    def _zero_block_ids(self, block_ids: list[int]) -> None:
        """0.33 clears new blocks of a hybrid model, in case that more of them is read than written.

        No function here does so (contract: attention-unowned-memory), and vLLM's runner for host
        memory would clear other blocks: it takes the pages into which blocks are cut for blocks.
        """

    def sample_tokens(self, *arguments: Any, **keywords: Any) -> Any:
        with host_streams.in_place():
            return super().sample_tokens(*arguments, **keywords)
