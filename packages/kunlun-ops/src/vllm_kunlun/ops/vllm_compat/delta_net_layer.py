# SPDX-License-Identifier: Apache-2.0
"""vLLM's layer of a gated delta net: its class, the op between its projections, its states.

The class is Qwen3-Next's own until 0.16. In 0.33 it also serves other models, lies among the
layers, and is given its states without a list of engines around them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.forward_context import get_forward_context

from vllm_kunlun.platforms import version

_SHARED = version.installed_is_from("0.33")

if version.installed_is_from("0.33"):
    from vllm.model_executor.layers.mamba.gdn.qwen_gdn_linear_attn import (
        QwenGatedDeltaNetAttention as DeltaNetLayer,
    )
    from vllm.utils.torch_utils import _encode_layer_name
else:
    from vllm.model_executor.models.qwen3_next import Qwen3NextGatedDeltaNet as DeltaNetLayer

__all__ = ["DeltaNetLayer", "call_core", "states"]


def call_core(mixed_qkv: Tensor, b: Tensor, a: Tensor, output: Tensor, name: str) -> None:
    """vLLM's op, which calls ``_forward_core`` of the layer ``name`` to fill ``output``.

    Shapes: mixed_qkv ``[T, dim]``, b and a ``[T, HV]``, output ``[T, HV, V]``.
    """
    if _SHARED:
        torch.ops.vllm.qwen_gdn_attention_core(
            mixed_qkv, b, a, output, layer_name=_encode_layer_name(name)
        )
    else:
        torch.ops.vllm.gdn_attention_core(mixed_qkv, b, a, output, name)


def states(layer: DeltaNetLayer) -> tuple[Tensor, Tensor]:
    """The pools of the convolution's states and of the delta rule's, in a step of the engine.

    Shapes: ``[blocks, state_len, dim]`` and ``[blocks, HV, V, K]``, a block's of both in one page.
    """
    cache = layer.kv_cache if _SHARED else layer.kv_cache[get_forward_context().virtual_engine]
    convolution, rule = cache
    return convolution, rule
