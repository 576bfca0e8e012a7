# SPDX-License-Identifier: Apache-2.0
"""What this wheel provides: architectures, how to serve them on a card, what was tested."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset
from vllm_kunlun.platforms.version import V0_33

__all__ = ["FAMILIES", "dense", "glm", "sparse"]

_OURS = "vllm_kunlun.models.deepseek"

_ENVIRONMENT = {
    "USE_ORI_ROPE": "1",
    "KUNLUN_USE_MOE_FFN_BLOCK": "1",
    "XPU_USE_MOE_SORTED_THRES": "120",
    "XPU_USE_FAST_SWIGLU": "1",
    "XMLIR_ENABLE_MOCK_TORCH_COMPILE": "false",
    "BKCL_FORCE_SYNC": "1",
}
_WHY = {
    "block-size": "the vendor's MLA functions read the latent cache in pages of 64 tokens",
    "USE_ORI_ROPE": "the vendor's template for MLA models: DeepSeek's rotary form is kept",
    "KUNLUN_USE_MOE_FFN_BLOCK": "recommended by the vendor for mixtures of experts",
    "XPU_USE_MOE_SORTED_THRES": "token count from which experts run sorted, as the vendor advises",
    "XPU_USE_FAST_SWIGLU": "DeepSeek's experts are SwiGLU",
    "XMLIR_ENABLE_MOCK_TORCH_COMPILE": "the piecewise graphs need torch.compile to be real",
    "BKCL_FORCE_SYNC": "collectives between several cards are stable with it",
}

_DENSE = ModelFamily(
    name="deepseek",
    distribution="kunlun-models-deepseek",
    architectures={"DeepseekV2ForCausalLM": None, "DeepseekV3ForCausalLM": None},
    drafts={"DeepSeekMTPModel": f"{_OURS}.deepseek_mtp:KunlunDeepSeekMTP"},
    preset=ServingPreset(
        args={"dtype": "float16", "block-size": 64},
        environment=_ENVIRONMENT,
        why={
            "dtype": "the card multiplies float16 at about twice the speed of bfloat16; "
            "the checkpoints say bfloat16",
            **_WHY,
        },
    ),
    status="emulated: tested against HF transformers; card: untested",
    notes="Kimi-K2 checkpoints name DeepseekV3ForCausalLM; they bring their own configuration "
    "class, so they need --trust-remote-code.",
)

_SPARSE_PRESET = ServingPreset(
    args={"dtype": "bfloat16", "block-size": 64},
    environment=_ENVIRONMENT,
    why={
        "dtype": "the vendor's sparse attention functions are known in bfloat16 only",
        **_WHY,
    },
)

_SPARSE = ModelFamily(
    name="deepseek-sparse",
    distribution="kunlun-models-deepseek",
    architectures={
        "DeepseekV32ForCausalLM": f"{_OURS}.deepseek_v2:KunlunDeepseekV32ForCausalLM",
    },
    drafts={"DeepseekV32MTPModel": f"{_OURS}.deepseek_mtp:KunlunDeepSeekMTP"},
    preset=_SPARSE_PRESET,
    status="emulated: tested against the paper's formulas; card: untested",
    notes="DeepSeek-V3.2: the indexer's keys are int8 where the model was trained with fp8.",
)

_GLM = ModelFamily(
    name="glm-sparse",
    distribution="kunlun-models-deepseek",
    architectures={"GlmMoeDsaForCausalLM": f"{_OURS}.deepseek_v2:KunlunDeepseekV32ForCausalLM"},
    vllm=V0_33,
    preset=_SPARSE_PRESET,
    status="emulated: tested against HF transformers; card: untested",
    notes="GLM-5, which has the architecture of DeepSeek-V3.2: with vLLM 0.33, whose transformers "
    "knows its configuration.",
)

FAMILIES = (_DENSE, _SPARSE, _GLM)


def dense() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return _DENSE


def sparse() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return _SPARSE


def glm() -> ModelFamily:
    """Provider of the entry-point group ``vllm_kunlun.model_families``."""
    return _GLM
