# SPDX-License-Identifier: Apache-2.0
"""Linear layers of an emulated device in 16 bits, on a processor that does not compute in them.

torch multiplies one row after the other there, each as slowly as the first. Here a few rows are
multiplied while the weight is read once, and many by parts of it in float32. The weight stays as
it was loaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.library import Library
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from vllm_kunlun.emulator.kernels import dense_rows
from vllm_kunlun.emulator.kernels.items import as_array
from vllm_kunlun.emulator.kernels.vectors import WIDTH
from vllm_kunlun.emulator.replay import replayable
from vllm_kunlun.ops.compiled import use_threads

__all__ = ["HalfEmbeddingMethod", "HalfLinearMethod", "dtypes"]

_FEW_ROWS = 64
"""Up to so many rows are quicker without a wide copy of the weight."""
_OUTPUTS = 1024
"""Whose part of the weight is widened at once."""

_library = Library("vllm_kunlun_emulated", "FRAGMENT")
_library.define("half_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


def dtypes() -> set[torch.dtype]:
    """Those of 16 bits that oneDNN, and so torch, has no products of on this processor."""
    computed = {
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported(),
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    }
    return {dtype for dtype, is_there in computed.items() if not is_there}


def _half_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    outputs, inputs = weight.shape
    rows = x.reshape(-1, inputs)
    of_rows = _of_few if rows.shape[0] <= _FEW_ROWS and inputs % WIDTH == 0 else _of_many
    return of_rows(rows.contiguous(), weight, bias).view(*x.shape[:-1], outputs)


@replayable
def _of_few(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out = x.new_empty(x.shape[0], weight.shape[0])
    rows, matrix = as_array(x.detach()), as_array(weight.detach())
    added = np.empty(0, rows.dtype) if bias is None else as_array(bias.detach())
    use_threads(weight.numel())
    dense_rows.LOOPS[x.dtype](rows, matrix, added, as_array(out))
    return out


def _of_many(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out, wide = x.new_empty(x.shape[0], weight.shape[0]), x.float()
    for low in range(0, weight.shape[0], _OUTPUTS):
        part = slice(low, low + _OUTPUTS)
        added = None if bias is None else bias[part].float()
        out[:, part] = torch.nn.functional.linear(wide, weight[part].float(), added)
    return out


def _fake(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


_library.impl("half_linear", _half_linear, "CPU")
_library._register_fake("half_linear", _fake)
_op = torch.ops.vllm_kunlun_emulated.half_linear.default
_op.implementation = _half_linear


class _HalfLayer:
    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W^T + bias``, float32 sums, rounded once."""
        return _op(x, layer.weight, bias)  # type: ignore[no-any-return]


class HalfLinearMethod(_HalfLayer, UnquantizedLinearMethod):
    """Of a linear layer."""


class HalfEmbeddingMethod(_HalfLayer, UnquantizedEmbeddingMethod):
    """Of an output projection."""
