# SPDX-License-Identifier: Apache-2.0
"""What this wheel provides: architectures, how to serve them on a card, what was tested."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["family"]

_PRESET = ServingPreset.recommended(
    {"XFT_USE_FAST_SWIGLU": ("1", "Seed-OSS's feed-forward layers are SwiGLU")}
)


def family() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return ModelFamily(
        name="seed-oss",
        distribution="kunlun-models-seed-oss",
        architectures={"SeedOssForCausalLM": None},
        preset=_PRESET,
        status="emulated: tested against HF transformers; card: untested",
        notes="Its thinking budget is part of the chat template, "
        "which vLLM reads from the checkpoint.",
    )
