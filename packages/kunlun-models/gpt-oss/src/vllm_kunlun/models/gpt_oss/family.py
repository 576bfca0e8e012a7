# SPDX-License-Identifier: Apache-2.0
"""What this wheel says of itself: architectures, how to serve them on a card, how far proven."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["family"]

_PRESET = ServingPreset(
    args={"dtype": "bfloat16", "block-size": 64},
    environment={
        "KUNLUN_USE_MOE_FFN_BLOCK": "1",
        "XPU_USE_MOE_SORTED_THRES": "120",
        "XMLIR_FORCE_USE_XPU_GRAPH": "1",
        "XMLIR_ENABLE_MOCK_TORCH_COMPILE": "false",
        "XMLIR_CUDNN_ENABLED": "1",
        "XPU_USE_DEFAULT_CTX": "1",
        "BKCL_FORCE_SYNC": "1",
    },
    why={
        "dtype": "as the checkpoints say; its activations are not known to fit the range of "
        "float16",
        "block-size": "the vendor's start-up templates serve with 64",
        "KUNLUN_USE_MOE_FFN_BLOCK": "recommended by the vendor for mixtures of experts",
        "XPU_USE_MOE_SORTED_THRES": "from so many tokens experts run sorted, as the vendor advises",
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
        name="gpt-oss",
        distribution="kunlun-models-gpt-oss",
        architectures={"GptOssForCausalLM": None},
        preset=_PRESET,
        status="emulated: tested against HF transformers; card: untested",
        notes="The published checkpoints hold their experts in mxfp4, "
        "which kunlun-quant converts at load.",
    )
