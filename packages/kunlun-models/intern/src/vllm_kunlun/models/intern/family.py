# SPDX-License-Identifier: Apache-2.0
"""What this wheel provides: architectures, how to serve them on a card, what was tested."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["family"]

_PRESET = ServingPreset.recommended(
    {"XFT_USE_FAST_SWIGLU": ("1", "InternLM2's feed-forward layers are SwiGLU")}
)


def family() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return ModelFamily(
        name="intern",
        distribution="kunlun-models-intern",
        architectures={
            "InternLM2ForCausalLM": None,
            "InternS1ForConditionalGeneration": None,
            "InternVLChatModel": None,
            "InternVLForConditionalGeneration": None,
        },
        preset=_PRESET,
        status="emulated: tested against HF transformers; card: untested",
        notes="InternVLForConditionalGeneration is InternVL in transformers' own layout. The "
        "others bring their own configuration class: --trust-remote-code.",
    )
