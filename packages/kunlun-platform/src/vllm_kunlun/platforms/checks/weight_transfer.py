# SPDX-License-Identifier: Apache-2.0
"""Weights that a trainer sends to a running engine through CUDA's libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["BACKENDS", "check"]

BACKENDS = frozenset({"nccl", "ipc", "sparse_nccl", "sharded_rdt", "nccl_m2n", "modelexpress"})
"""vLLM's own: each of them needs NCCL, CUDA's memory handles or RDMA between GPUs."""


def check(config: VllmConfig) -> None:
    """Refuse vLLM's own backends; one that the user registered may come.

    Raises:
        UnsupportedError: naming the backend and the alternative.
    """
    transfer = getattr(config, "weight_transfer_config", None)  # vLLM 0.15 lacks it
    if transfer is not None and transfer.backend in BACKENDS:
        raise UnsupportedError(
            f"--weight-transfer-config with {transfer.backend}: it sends weights through "
            "libraries of CUDA. Leave it out, and call the model's load_weights over RPC."
        )
