# SPDX-License-Identifier: Apache-2.0
"""Activation layers on the vendor's functions.

vLLM's other activations (``MulAndSilu``, ``FatreluAndMul``, ``GeluAndMulSparse``,
``SwigluOAIAndMul``, ``SwigluStepAndMul``, ``ReLUSquaredActivation``) need no class here: on an
out-of-tree platform they run their own plain torch, and the vendor has no function for them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from vllm.model_executor.layers.activation import (
    XIELU,
    FastGELU,
    GeluAndMul,
    NewGELU,
    QuickGELU,
    SiluAndMul,
)

from vllm_kunlun.ops.torch_ops import activation

__all__ = [
    "KunlunFastGELU",
    "KunlunGeluAndMul",
    "KunlunNewGELU",
    "KunlunQuickGELU",
    "KunlunSiluAndMul",
    "KunlunXIELU",
]


class KunlunSiluAndMul(SiluAndMul):
    """``silu(gate) * up`` for ``x = [gate | up]``."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes: x ``[.., 2 d]`` -> ``[.., d]``."""
        return activation.swiglu(x.contiguous())


class KunlunGeluAndMul(GeluAndMul):
    """``gelu(gate) * up``. The vendor has the exact gelu only; the tanh form is vLLM's."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes: x ``[.., 2 d]`` -> ``[.., d]``."""
        if self.approximate != "none":
            return self.forward_native(x)
        gate, up = x.chunk(2, dim=-1)
        return activation.gelu(gate.contiguous()).mul_(up)


class KunlunQuickGELU(QuickGELU):
    """``x * sigmoid(1.702 x)``."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes: x of any shape -> the same shape."""
        return activation.quick_gelu(x.contiguous())


class KunlunNewGELU(NewGELU):
    """``x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`` in one pass, not eight."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes: x of any shape -> the same shape."""
        return F.gelu(x, approximate="tanh")


class KunlunFastGELU(FastGELU):
    """The function of :class:`KunlunNewGELU`, written another way in vLLM."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes: x of any shape -> the same shape."""
        return F.gelu(x, approximate="tanh")


class KunlunXIELU(XIELU):
    """xIELU in torch. vLLM's would call a CUDA package where one is installed."""

    def forward_oot(self, input: torch.Tensor) -> torch.Tensor:
        """Shapes: input of any shape -> the same shape."""
        return self._xielu_python(input)
