# SPDX-License-Identifier: Apache-2.0
"""Dense layers of compressed-tensors with packed weights and float activations (W4A16, W8A16).

The format packs along the input as GPTQ does, only ``[N, K]``; so the vendor's GPTQ function runs
it.
"""

from __future__ import annotations

import torch
from vllm.model_executor.parameter import permute_param_layout_
from vllm.scalar_type import scalar_types

from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.layouts import gptq
from vllm_kunlun.quantization.linear.packed import apply_weights, set_weights
from vllm_kunlun.quantization.vllm_compat.linear_kernels import MPLinearKernel, MPLinearLayerConfig

__all__ = ["KunlunMixedPrecisionLinearKernel"]

_TYPES = (
    scalar_types.uint4b8,
    scalar_types.uint4,
    scalar_types.uint8b128,
    scalar_types.uint8,
)


class KunlunMixedPrecisionLinearKernel(MPLinearKernel):
    """Symmetric (a constant zero) or with zero points, by group or by channel, act-order too."""

    @classmethod
    def get_min_capability(cls) -> int:
        return -1

    @classmethod
    def can_implement(cls, c: MPLinearLayerConfig) -> tuple[bool, str | None]:
        """Whether the card runs these weights, or why it does not."""
        if c.weight_type not in _TYPES:
            return False, f"weights of {c.weight_type}: the card takes 4 and 8-bit integers"
        if c.partition_weight_shape[0] % (32 // c.weight_type.size_bits):
            return False, f"{c.partition_weight_shape[0]} inputs do not fill words of 32 bits"
        return True, None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """``[N, K]`` becomes ``[K, N]``, zeros true ones; errors as of :func:`set_weights`."""
        order_name = getattr(self, "w_gidx_name", None)  # 0.33 refuses what has one
        every = (self.w_q_name, self.w_s_name, self.w_zp_name, order_name)
        names = [name for name in every if name is not None and hasattr(layer, name)]
        shared = [name for name in names if name == order_name]
        if not forms.remember(layer, names, self.process_weights_after_loading, shared=shared):
            return
        kind = self.config.weight_type
        packed, scales, zero_point, *order = self._get_weight_params(layer)
        g_idx = order[0] if order else None
        qweight = permute_param_layout_(packed, input_dim=0, output_dim=1, packed_dim=0).data
        scales = permute_param_layout_(scales, input_dim=0, output_dim=1).data.contiguous()
        if zero_point is None:
            zeros = gptq.constant_zeros(scales, kind.size_bits)
        else:
            words = permute_param_layout_(zero_point, input_dim=0, output_dim=1).data
            zeros = gptq.unpack_zeros(words.contiguous(), kind.size_bits)
        set_weights(
            layer, qweight.contiguous(), zeros, scales, kind.size_bits,
            None if g_idx is None else g_idx.data,
        )  # fmt: skip
        for name in names:
            delattr(layer, name)

    def apply_weights(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W + bias``. Shapes: x ``[.., K]``, bias ``[N]``."""
        return apply_weights(layer, x, bias)
