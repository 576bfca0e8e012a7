# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the fused split, head norm and rotation."""

from vllm_kunlun.ops.torch_ops.rotary import FUSED_EPS
from vllm_kunlun.ops.torch_ops.rotary import fused_split_norm_rope as Split_Norm_Rope

__all__ = ["FUSED_EPS", "Split_Norm_Rope"]
