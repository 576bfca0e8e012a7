# SPDX-License-Identifier: Apache-2.0
"""A weight in oneDNN's own format, and its memory where that format is one of panels."""

from __future__ import annotations

import ctypes

import numpy as np
import torch

from vllm_kunlun.emulator.kernels import panels
from vllm_kunlun.emulator.kernels.items import as_array
from vllm_kunlun.emulator.replay import replayable
from vllm_kunlun.ops.compiled import use_threads

__all__ = ["PackedWeight"]

_FEW_ROWS = {torch.float32: 4, torch.bfloat16: 2}
"""Up to so many rows our own loops are quicker than oneDNN."""
_NONE: np.ndarray = np.empty(0, np.float32)


class PackedWeight:
    """A packed weight: products with any number of rows, with a few by a loop that reads faster.

    Args:
        weight: ``[N, K]``, float32 or bfloat16.
    """

    made = 0
    """How many there have been: what was recorded with one holds while this stays as it was."""

    def __init__(self, weight: torch.Tensor) -> None:
        weight = weight.detach()
        self._columns = weight.shape[1]
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self._panels = _panels(weight, *self.memory())
        PackedWeight.made += 1

    def memory(self) -> tuple[int, int]:
        """Its address and its size in bytes."""
        mkldnn = torch.ops.mkldnn
        return mkldnn.data_ptr(self._packed), mkldnn._nbytes(self._packed)

    def to_dense(self) -> torch.Tensor:
        """The weight as it was."""
        dense: torch.Tensor = self._packed.to_dense()
        return dense

    def multiply(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """``x W^T + bias`` of the weight's dtype, float32 sums. Shapes: x ``[.., K]``."""
        if self._panels is not None and 0 < x.numel() <= _FEW_ROWS[x.dtype] * self._columns:
            return _of_few_rows(self._panels, x.detach(), bias)
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(
            x, self._packed, bias, "none", [], ""
        )
        return product


@replayable
def _of_few_rows(weight: np.ndarray, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out = x.new_empty(*x.shape[:-1], weight.shape[0] * weight.shape[2])
    rows, result = (as_array(each.view(-1, each.shape[-1])) for each in (x.contiguous(), out))
    added = _NONE if bias is None else bias.detach().float().numpy()
    use_threads(weight.size)
    panels.LOOPS[x.dtype](weight, rows, added, result)
    return out


def _panels(weight: torch.Tensor, address: int, size: int) -> np.ndarray | None:
    """The packed memory as :mod:`.kernels.panels` has it; None if it lies in another order.

    oneDNN does not say how it packs: the memory is held against the weight itself.
    """
    rows, columns = weight.shape
    of_pairs = weight.dtype == torch.bfloat16
    if size != weight.nbytes or size == 0 or (of_pairs and columns % 2):
        return None
    kind, inside = (ctypes.c_uint32, 2) if of_pairs else (ctypes.c_float, 1)
    memory = np.frombuffer((kind * (size // 4)).from_address(address), dtype=kind)
    held = torch.from_numpy(memory.view(np.int32))
    # A word for each input, or for two of them, which lie side by side.
    words = weight.contiguous().view(torch.int32)
    for width in (each for each in panels.WIDTHS if rows % each == 0):
        shape = (rows // width, columns // inside, width)
        if torch.equal(held.view(shape), words.view(shape[0], width, shape[1]).transpose(1, 2)):
            return memory.reshape(shape)
    return None
