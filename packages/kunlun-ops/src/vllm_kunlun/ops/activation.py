# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the activation layers. vLLM's own names give the same classes."""

from vllm_kunlun.ops.layers.activation import KunlunGeluAndMul as GeluAndMul
from vllm_kunlun.ops.layers.activation import KunlunQuickGELU as QuickGELU
from vllm_kunlun.ops.layers.activation import KunlunSiluAndMul as SiluAndMul

__all__ = ["GeluAndMul", "QuickGELU", "SiluAndMul"]
