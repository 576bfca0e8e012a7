# SPDX-License-Identifier: Apache-2.0
"""Activation layers on the vendor's functions."""

from __future__ import annotations

import torch
from vllm.model_executor.layers.activation import GeluAndMul, QuickGELU, SiluAndMul

from vllm_kunlun.ops import elementwise

__all__ = ["KunlunGeluAndMul", "KunlunQuickGELU", "KunlunSiluAndMul"]


class KunlunSiluAndMul(SiluAndMul):
    """``silu(gate) * up`` for ``x = [gate | up]``."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        return elementwise.swiglu(x.contiguous())


class KunlunGeluAndMul(GeluAndMul):
    """``gelu(gate) * up``. The vendor has the exact gelu only; the tanh form is vLLM's."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        if self.approximate != "none":
            return self.forward_native(x)
        gate, up = x.chunk(2, dim=-1)
        return elementwise.gelu(gate.contiguous()).mul_(up)


class KunlunQuickGELU(QuickGELU):
    """``x * sigmoid(1.702 x)``."""

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        return elementwise.quick_gelu(x.contiguous())
