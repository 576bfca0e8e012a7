# SPDX-License-Identifier: Apache-2.0
"""What this wheel says of itself: architectures, how to serve them on a card, how far proven."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["family"]

_PRESET = ServingPreset(
    args={"dtype": "float16", "block-size": 64},
    environment={
        "XFT_USE_FAST_SWIGLU": "1",
        "XMLIR_FORCE_USE_XPU_GRAPH": "1",
        "XMLIR_ENABLE_MOCK_TORCH_COMPILE": "false",
        "XMLIR_CUDNN_ENABLED": "1",
        "XPU_USE_DEFAULT_CTX": "1",
        "BKCL_FORCE_SYNC": "1",
    },
    why={
        "dtype": "the card multiplies float16 at about twice the speed of bfloat16, and bfloat16 "
        "is reported to take twice the memory; the checkpoints say bfloat16",
        "block-size": "the vendor's start-up templates serve with 64",
        "XFT_USE_FAST_SWIGLU": "MiMo's feed-forward layers are SwiGLU",
        "XMLIR_FORCE_USE_XPU_GRAPH": "captured graphs run on the device",
        "XMLIR_ENABLE_MOCK_TORCH_COMPILE": "the piecewise graphs need torch.compile to be real",
        "XMLIR_CUDNN_ENABLED": "recommended by the vendor for every model",
        "XPU_USE_DEFAULT_CTX": "recommended by the vendor for every model",
        "BKCL_FORCE_SYNC": "collectives between several cards are stable with it",
    },
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
