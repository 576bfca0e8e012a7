# SPDX-License-Identifier: Apache-2.0
"""What this wheel provides: architectures, how to serve them on a card, what was tested."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["family"]

_PRESET = ServingPreset.recommended(
    {"XFT_USE_FAST_SWIGLU": ("1", "MiMo's feed-forward layers are SwiGLU")}
)


def family() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return ModelFamily(
        name="mimo",
        distribution="kunlun-models-mimo",
        architectures={"MiMoForCausalLM": None, "MiMoV2FlashForCausalLM": None},
        drafts={"MiMoMTPModel": None},
        preset=_PRESET,
        status="emulated: MiMo tested against HF transformers, MiMo-V2-Flash against its formulas; "
        "card: untested",
        notes="They bring their own configuration class: --trust-remote-code. vLLM 0.15.1 leaves "
        "MiMo-V2-Flash's draft layers out.",
    )
