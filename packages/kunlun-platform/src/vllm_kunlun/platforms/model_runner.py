# SPDX-License-Identifier: Apache-2.0
"""The model runner of an emulated device."""

from __future__ import annotations

import torch
from vllm.config import VllmConfig
from vllm.v1.worker.cpu_model_runner import CPUModelRunner, _torch_cuda_wrapper
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

__all__ = ["KunlunModelRunner"]


class KunlunModelRunner(CPUModelRunner):
    """vLLM's GPU model runner on host memory.

    ``CPUModelRunner.__init__`` is passed over because it refuses speculative decoding; what it
    does besides (one tensor where the GPU runner keeps a host and a device copy) is called here.
    """

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        with _torch_cuda_wrapper():
            GPUModelRunner.__init__(self, vllm_config, device)
        self.use_cuda_graph = False
        self.cascade_attn_enabled = False
        self._postprocess_tensors()

    def load_model(self, eep_scale_up: bool = False) -> None:
        # The GPU runner's loader also loads drafters.
        GPUModelRunner.load_model(self, eep_scale_up)
