# SPDX-License-Identifier: Apache-2.0
"""One table: vLLM's layer classes, and the class of ours that replaces each."""

from __future__ import annotations

from vllm.model_executor.custom_op import CustomOp, op_registry_oot

from vllm_kunlun.ops.layers.activation import (
    KunlunFastGELU,
    KunlunGeluAndMul,
    KunlunNewGELU,
    KunlunQuickGELU,
    KunlunSiluAndMul,
    KunlunXIELU,
)
from vllm_kunlun.ops.layers.embedding import KunlunParallelLMHead, KunlunVocabParallelEmbedding
from vllm_kunlun.ops.layers.encoder_attention import KunlunMMEncoderAttention
from vllm_kunlun.ops.layers.moe import KunlunGroupedTopk, KunlunUnquantizedFusedMoEMethod
from vllm_kunlun.ops.layers.norm import (
    KunlunGemmaRMSNorm,
    KunlunRMSNorm,
    KunlunRMSNormGated,
)
from vllm_kunlun.ops.layers.rotary import ROTARY_LAYERS
from vllm_kunlun.ops.layers.rotary_mrope import MROPE_LAYERS
from vllm_kunlun.ops.layers.rotary_variants import (
    KunlunApplyRotaryEmb,
    KunlunDeepseekScalingRotaryEmbedding,
    KunlunDualChunkRotaryEmbedding,
    KunlunLlama4VisionRotaryEmbedding,
)
from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["LAYERS", "register_layers"]

LAYERS: dict[str, type] = {
    "RMSNorm": KunlunRMSNorm,
    "GemmaRMSNorm": KunlunGemmaRMSNorm,
    "RMSNormGated": KunlunRMSNormGated,
    "SiluAndMul": KunlunSiluAndMul,
    "GeluAndMul": KunlunGeluAndMul,
    "QuickGELU": KunlunQuickGELU,
    "NewGELU": KunlunNewGELU,
    "FastGELU": KunlunFastGELU,
    "XIELU": KunlunXIELU,
    "VocabParallelEmbedding": KunlunVocabParallelEmbedding,
    "ParallelLMHead": KunlunParallelLMHead,
    "UnquantizedFusedMoEMethod": KunlunUnquantizedFusedMoEMethod,
    "GroupedTopk": KunlunGroupedTopk,
    "MMEncoderAttention": KunlunMMEncoderAttention,
    **ROTARY_LAYERS,
    "ApplyRotaryEmb": KunlunApplyRotaryEmb,
    "DeepseekScalingRotaryEmbedding": KunlunDeepseekScalingRotaryEmbedding,
    "DualChunkRotaryEmbedding": KunlunDualChunkRotaryEmbedding,
    "Llama4VisionRotaryEmbedding": KunlunLlama4VisionRotaryEmbedding,
    **MROPE_LAYERS,
}
"""vLLM's class name -> our class. vLLM looks a layer up by the name of the class it builds."""


def register_layers() -> None:
    """Enter :data:`LAYERS` into vLLM's registry. Re-entrant.

    Raises:
        KunlunError: another plugin has already replaced one of the layers.
    """
    for name, layer in LAYERS.items():
        present = op_registry_oot.get(name)
        if present is layer:
            continue
        if present is not None:
            raise KunlunError(
                f"layer {name} is already replaced by {present.__module__}.{present.__qualname__}. "
                "Two platform plugins cannot share one process: uninstall one of them, or name the "
                "wanted one in VLLM_PLUGINS."
            )
        CustomOp.register_oot(name=name)(layer)
