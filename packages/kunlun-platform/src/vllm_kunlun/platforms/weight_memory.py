# SPDX-License-Identifier: Apache-2.0
"""Whether a device keeps a model's weights once.

The card is reported to keep bfloat16 weights twice. What it does depends on the vendor's release,
so each start measures it.
"""

from __future__ import annotations

import torch
from vllm.logger import init_logger

__all__ = ["report", "weight_bytes"]

logger = init_logger("vllm.kunlun.memory")

NOISE_BYTES = 2 * 2**30
"""What a device may take beside weights: libraries' workspaces, communication buffers."""


def weight_bytes(model: torch.nn.Module) -> int:
    """Memory of a model's parameters and buffers; tensors that share theirs count once."""
    tensors = [*model.parameters(), *model.buffers()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def report(weights: int, held: int, dtype: torch.dtype) -> None:
    """Say what a model's weights take, and warn where they seem to be there twice.

    Args:
        weights: their bytes.
        held: bytes that the device has in use since before they were loaded.
        dtype: what the model computes in.
    """
    said = f"weights of {weights / 2**30:.2f} GiB take {held / 2**30:.2f} GiB of the device"
    if held - weights <= max(weights // 2, NOISE_BYTES):
        logger.info("The model's %s.", said)
        return
    advice = (
        "The card is reported to keep bfloat16 weights twice: start with --dtype float16 if the "
        "model's range allows."
        if dtype == torch.bfloat16
        else "Something keeps a second copy. Lower --gpu-memory-utilization if the start fails, "
        "and please report this with the vendor's versions (vllm-kunlun doctor)."
    )
    logger.warning("The model's %s. %s", said, advice)
