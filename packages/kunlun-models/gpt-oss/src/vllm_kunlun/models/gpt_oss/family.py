# SPDX-License-Identifier: Apache-2.0
"""What this wheel provides: architectures, how to serve them on a card, what was tested."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["family"]

_PRESET = ServingPreset.recommended(
    {
        "dtype": (
            "bfloat16",
            "as the checkpoints say; its activations are not known to fit the range of float16",
        )
    },
    experts=True,
)


def family() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return ModelFamily(
        name="gpt-oss",
        distribution="kunlun-models-gpt-oss",
        architectures={"GptOssForCausalLM": None},
        preset=_PRESET,
        status="emulated: tested against HF transformers; card: untested",
        notes="The published checkpoints hold their experts in mxfp4, "
        "which kunlun-quant converts at load.",
    )
