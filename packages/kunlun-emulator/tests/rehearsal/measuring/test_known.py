# SPDX-License-Identifier: Apache-2.0
"""Models that are known by name: each is a configuration that transformers and vLLM can read."""

from __future__ import annotations

import pytest

from vllm_kunlun.emulator.rehearsal.measuring import known, layers
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize("name", known.NAMES)
def test_vllm_has_its_class_and_transformers_its_configuration(name):
    from transformers import CONFIG_MAPPING
    from vllm.model_executor.models.registry import _VLLM_MODELS
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    config = known.configuration(name)
    assert config["architectures"][0] in _VLLM_MODELS
    kind = config["model_type"]
    made = (CONFIG_MAPPING[kind] if kind in CONFIG_MAPPING else _CONFIG_REGISTRY[kind])(**config)
    # Sizes that are misspelt would be ignored, and the class's own would count.
    for key in ("hidden_size", "num_hidden_layers", "vocab_size"):
        text = made.get_text_config()
        assert getattr(text, key) == config[key]


def test_a_configuration_is_the_callers_own():
    known.configuration("qwen3")["architectures"].clear()
    assert known.configuration("qwen3")["architectures"] == ["Qwen3ForCausalLM"]


def test_a_w8a8_model_differs_by_its_quantisation_only():
    quantised = known.configuration("qwen3-w8a8")
    assert quantised.pop("quantization_config")["quant_method"] == "compressed-tensors"
    assert quantised == known.configuration("qwen3")


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(UnsupportedError, match=r"'qwen9' .* one of qwen3, .*qwen2\.5-vl"):
        known.configuration("qwen9")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("qwen3", (0, 1)), ("deepseek-v3", (3, 1)), ("qwen3-next", (0, 4)), ("gpt-oss", (0, 2))],
)
def test_their_layers_follow_the_published_pattern(name, pattern):
    assert layers.pattern_of(known.configuration(name)) == pattern
