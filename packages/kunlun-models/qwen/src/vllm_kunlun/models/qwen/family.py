# SPDX-License-Identifier: Apache-2.0
"""What this wheel says of itself: architectures, how to serve them on a card, how far proven."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["FAMILIES", "dense", "mixtures"]

_ARGS: dict[str, str | int | float | bool] = {"dtype": "float16", "block-size": 64}
_ENVIRONMENT = {
    "XMLIR_FORCE_USE_XPU_GRAPH": "1",
    "XMLIR_ENABLE_MOCK_TORCH_COMPILE": "false",
    "XMLIR_CUDNN_ENABLED": "1",
    "XPU_USE_DEFAULT_CTX": "1",
    "XFT_USE_FAST_SWIGLU": "1",
    "BKCL_FORCE_SYNC": "1",
}
_WHY = {
    "dtype": "the card multiplies float16 at about twice the speed of bfloat16, and bfloat16 "
    "is reported to take twice the memory; Qwen's checkpoints say bfloat16",
    "block-size": "the vendor's start-up templates serve with 64",
    "XMLIR_FORCE_USE_XPU_GRAPH": "captured graphs run on the device",
    "XMLIR_ENABLE_MOCK_TORCH_COMPILE": "the piecewise graphs need torch.compile to be real",
    "XMLIR_CUDNN_ENABLED": "recommended by the vendor for every model",
    "XPU_USE_DEFAULT_CTX": "recommended by the vendor for every model",
    "XFT_USE_FAST_SWIGLU": "Qwen's feed-forward layers are SwiGLU",
    "BKCL_FORCE_SYNC": "collectives between several cards are stable with it",
}
_STATUS = "emulated: tested against HF transformers; card: untested"

_DENSE = ModelFamily(
    name="qwen",
    distribution="kunlun-models-qwen",
    architectures={
        "Qwen2ForCausalLM": None,
        "Qwen2VLForConditionalGeneration": None,
        "Qwen2_5_VLForConditionalGeneration": None,
        "Qwen3VLForConditionalGeneration": None,
        "Qwen3ForCausalLM": "vllm_kunlun.models.qwen.qwen3:KunlunQwen3ForCausalLM",
    },
    preset=ServingPreset(args=_ARGS, environment=_ENVIRONMENT, why=_WHY),
    status=_STATUS,
    notes="Qwen2.5 checkpoints name Qwen2ForCausalLM. The VL models take images and video.",
)

_MIXTURES = ModelFamily(
    name="qwen-moe",
    distribution="kunlun-models-qwen",
    architectures={
        "Qwen2MoeForCausalLM": None,
        "Qwen3MoeForCausalLM": None,
        "Qwen3VLMoeForConditionalGeneration": None,
        "Qwen3NextForCausalLM": "vllm_kunlun.models.qwen.qwen3_next:KunlunQwen3NextForCausalLM",
    },
    preset=ServingPreset(
        args=_ARGS,
        environment={
            **_ENVIRONMENT,
            "KUNLUN_USE_MOE_FFN_BLOCK": "1",
            "XPU_USE_MOE_SORTED_THRES": "120",
        },
        why={
            **_WHY,
            "KUNLUN_USE_MOE_FFN_BLOCK": "recommended by the vendor for mixtures of experts",
            "XPU_USE_MOE_SORTED_THRES": "from so many tokens experts run sorted, as the vendor "
            "advises",
        },
    ),
    status=_STATUS,
    notes="Mixtures of experts, Qwen3-Next's layers of linear attention included.",
)

FAMILIES = (_DENSE, _MIXTURES)


def dense() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return _DENSE


def mixtures() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return _MIXTURES
