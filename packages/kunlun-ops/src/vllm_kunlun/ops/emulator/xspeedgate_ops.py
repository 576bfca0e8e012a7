# SPDX-License-Identifier: Apache-2.0
"""The emulated ``torch.ops.xspeedgate_ops``."""

from vllm_kunlun.ops.emulator.embedding import get_masked_input_and_mask
from vllm_kunlun.ops.emulator.rotary import split_norm_rope_gated as split_norm_rope_neox

__all__ = ["get_masked_input_and_mask", "split_norm_rope_neox"]
