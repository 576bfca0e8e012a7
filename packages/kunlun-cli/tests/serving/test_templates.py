# SPDX-License-Identifier: Apache-2.0
"""Which of the manual's templates a model gets, and what is in it."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from vllm_kunlun.cli.serving.templates import template, template_of


@pytest.mark.parametrize(
    ("kind", "architecture", "name"),
    [
        ("llama", "LlamaForCausalLM", "dense"),
        ("gpt2", "GPT2LMHeadModel", "dense"),
        ("mixtral", "MixtralForCausalLM", "moe"),
        ("qwen3_moe", "Qwen3MoeForCausalLM", "moe"),
        ("gpt_oss", "GptOssForCausalLM", "moe"),
        ("llama4", "Llama4ForConditionalGeneration", "moe"),
        ("deepseek_v3", "DeepseekV3ForCausalLM", "latent"),
        ("bert", "BertModel", None),
        ("qwen3", "Qwen3ForSequenceClassification", None),
    ],
)
def test_by_configuration(kind, architecture, name):
    """As transformers writes the class's defaults."""
    assert template_of(architecture, AutoConfig.for_model(kind).to_dict()) == name


def test_the_manuals_settings():
    source, dense = template("dense", {})
    assert source == "template A for a dense model"
    assert dense.args == {"dtype": "float16", "block-size": 64}
    assert not {"USE_ORI_ROPE", "KUNLUN_USE_MOE_FFN_BLOCK"} & set(dense.environment)
    moe = template("moe", {})[1].environment
    assert moe["KUNLUN_USE_MOE_FFN_BLOCK"] == "1"
    assert moe["XPU_USE_MOE_SORTED_THRES"] == "120"
    assert moe["XMLIR_FORCE_USE_XPU_GRAPH"] == "1"
    latent = template("latent", {"n_routed_experts": 256})[1].environment
    assert latent["USE_ORI_ROPE"] == "1"
    assert latent["XMLIR_ENABLE_MOCK_TORCH_COMPILE"] == "false"
    assert "KUNLUN_USE_MOE_FFN_BLOCK" in latent
    assert "KUNLUN_USE_MOE_FFN_BLOCK" not in template("latent", {})[1].environment


def test_a_model_that_vllm_refuses_in_float16():
    _, preset = template("dense", {"model_type": "gemma3_text"})
    assert preset.args["dtype"] == "bfloat16"
    assert "refuses float16" in preset.why["dtype"]
