# SPDX-License-Identifier: Apache-2.0
"""Whether a device keeps a model's weights once.

The card is reported to keep bfloat16 weights twice. What it does depends on the vendor's release,
so each start measures it.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.logger import init_logger

__all__ = ["models_of", "report", "weight_bytes"]

logger = init_logger("vllm.kunlun.memory")

NOISE_BYTES = 2 * 2**30
"""What a device may take beside weights: libraries' workspaces, communication buffers."""


def models_of(runner: Any) -> list[torch.nn.Module]:
    """The models that a runner of vLLM's has loaded: the target, and a drafter's if it has one."""
    drafter = getattr(getattr(runner, "drafter", None), "model", None)
    return [runner.get_model(), *([drafter] if isinstance(drafter, torch.nn.Module) else [])]


def weight_bytes(*models: torch.nn.Module) -> int:
    """Memory of the models' parameters and buffers; tensors that share theirs count once."""
    tensors = [tensor for each in models for tensor in (*each.parameters(), *each.buffers())]
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
