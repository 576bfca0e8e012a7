# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation on the vendor's functions."""

from __future__ import annotations

from typing import TypeAlias

import torch
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm, RMSNormGated

from vllm_kunlun.ops.torch_ops import norm

__all__ = ["KunlunGemmaRMSNorm", "KunlunRMSNorm", "KunlunRMSNormGated"]

Normalised: TypeAlias = "torch.Tensor | tuple[torch.Tensor, torch.Tensor]"


class KunlunRMSNorm(RMSNorm):
    """``x * rsqrt(mean(x^2) + eps) * w``, with the residual added first if there is one.

    Falls back to vLLM's own arithmetic where the vendor's function does not reach: a variance over
    part of the row, or operands of different dtypes.
    """

    def forward_oot(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> Normalised:
        """Shapes: x and residual ``[.., N]`` -> as x, and the sum where there is a residual."""
        weight = self.weight
        if self.variance_size_override is not None or weight.dtype != x.dtype:
            return self.forward_native(x, residual)
        if residual is None:
            return norm.rms_norm(x.contiguous(), weight, self.variance_epsilon)
        if residual.dtype != x.dtype or not residual.is_contiguous():
            return self.forward_native(x, residual)
        x = x.contiguous()
        norm.add_rms_norm_(x, residual, weight, self.variance_epsilon)
        return x, residual


class KunlunGemmaRMSNorm(GemmaRMSNorm):
    """``x * rsqrt(mean(x^2) + eps) * (1 + w)``, with the residual added first if there is one."""

    def forward_oot(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> Normalised:
        """Shapes: x and residual ``[.., N]`` -> as x, and the sum where there is a residual."""
        if self.weight.dtype != x.dtype or (residual is not None and residual.dtype != x.dtype):
            return self.forward_native(x, residual)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        if residual is None:
            return norm.gemma_rms_norm(rows, self.weight, self.variance_epsilon).view(x.shape)
        normalised, total = norm.gemma_add_rms_norm(
            rows,
            residual.reshape(-1, x.shape[-1]).contiguous(),
            self.weight,
            self.variance_epsilon,
        )
        return normalised.view(x.shape), total.view(x.shape)


class KunlunRMSNormGated(RMSNormGated):
    """``rms_norm(x) * silu(z)``, or ``rms_norm(x * silu(z))`` where the gate comes first."""

    def forward_oot(self, x: torch.Tensor, z: torch.Tensor | None = None) -> torch.Tensor:
        """Shapes: x and z ``[.., N]`` -> as x."""
        # 0.33 has gates of another kind: the vendor's function multiplies by silu.
        other_gate = getattr(self, "activation", "swish") not in ("swish", "silu")
        other_dtype = self.weight.dtype != x.dtype or (z is not None and z.dtype != x.dtype)
        if other_gate or other_dtype:
            return self.forward_native(x, z)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        gate = None if z is None else z.reshape(rows.shape).contiguous()
        result = norm.rms_norm_gated(
            rows, gate, self.weight, self.eps, self.group_size, self.norm_before_gate
        )
        return result.view(x.shape)
