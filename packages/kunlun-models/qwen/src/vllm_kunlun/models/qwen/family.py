# SPDX-License-Identifier: Apache-2.0
"""What this wheel provides: architectures, how to serve them on a card, what was tested."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["FAMILIES", "dense", "mixtures"]

_SWIGLU = {"XFT_USE_FAST_SWIGLU": ("1", "Qwen's feed-forward layers are SwiGLU")}
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
    preset=ServingPreset.recommended(_SWIGLU),
    status=_STATUS,
    notes="Qwen2.5 checkpoints name Qwen2ForCausalLM. The VL models take images and video.",
)

_MIXTURES = ModelFamily(
    name="qwen-moe",
    distribution="kunlun-models-qwen",
    architectures={
        "Qwen2MoeForCausalLM": None,
        "Qwen3MoeForCausalLM": "vllm_kunlun.models.qwen.qwen3_moe:KunlunQwen3MoeForCausalLM",
        "Qwen3VLMoeForConditionalGeneration": None,
        "Qwen3NextForCausalLM": "vllm_kunlun.models.qwen.qwen3_next:KunlunQwen3NextForCausalLM",
    },
    drafts={"Qwen3NextMTP": None},
    preset=ServingPreset.recommended(_SWIGLU, experts=True),
    status=_STATUS,
    notes="Mixtures of experts, with Qwen3-Next and its gated delta nets. Drafts of "
    "Qwen3-Next run on a card once its `ops check` report proves where their states are kept.",
)

FAMILIES = (_DENSE, _MIXTURES)


def dense() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return _DENSE


def mixtures() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return _MIXTURES
