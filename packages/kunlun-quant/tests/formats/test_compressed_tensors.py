# SPDX-License-Identifier: Apache-2.0
"""The method compressed-tensors: what is refused by name."""

from __future__ import annotations

import pytest
import torch
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
)
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.formats.compressed_tensors import KunlunCompressedTensorsConfig
from vllm_kunlun.quantization.linear.compressed_int8 import KunlunW8A8Int8
from vllm_kunlun.quantization.linear.head import KunlunHeadMethod


def test_transforms_are_refused_and_an_fp8_cache_is_not_taken_over(int8_configuration):
    with pytest.raises(UnsupportedError, match="transform_config"):
        int8_configuration("channel", False, True, transform_config={"config_groups": {}})
    scheme = {"type": "float", "num_bits": 8, "strategy": "tensor", "symmetric": True}
    config = int8_configuration("channel", False, True, kv_cache_scheme=scheme)
    assert config.kv_cache_scheme is None


@pytest.mark.parametrize(
    ("weights", "activations", "format_"),
    [
        ({"num_bits": 4}, {}, "int-quantized"),
        ({"symmetric": False}, {}, "int-quantized"),
        ({"strategy": "group", "group_size": 32}, {}, "int-quantized"),
        ({}, {"num_bits": 4}, "int-quantized"),
        ({}, {}, "an-unknown-format"),
    ],
    ids=["w4a8", "weights-asymmetric", "groups", "w8a4", "format"],
)
def test_what_has_no_arithmetic_is_refused_by_name(
    weights, activations, format_, qkv, int8_configuration
):
    given = int8_configuration("channel", False, True)
    group = given.config["config_groups"]["g"]
    group["weights"] |= weights
    group["input_activations"] |= activations
    config = KunlunCompressedTensorsConfig.from_config({**given.config, "format": format_})
    config.packed_modules_mapping = given.packed_modules_mapping
    with pytest.raises(UnsupportedError, match=r"qkv_proj: .*int8 \(W8A8\)"):
        qkv(config)


@pytest.mark.parametrize(
    ("targets", "ignored", "rows"),
    [
        (["Linear"], [], [64]),
        (["re:.*proj"], ["lm_head"], [64]),
        (["Linear"], ["re:.*k_proj"], [32, 16, 16]),
        (["re:.*v_proj"], [], [32, 16, 16]),
        (["re:.*[qv]_proj"], [], [32, 16, 16]),
        (["re:.*qkv_proj"], [], [64]),
        (["Linear"], ["re:.*[qkv]_proj"], []),
        (["Linear"], ["m.qkv_proj"], []),
        (["re:.*mlp.*"], [], []),
    ],
)
def test_targets_and_ignored_name_the_parts_of_a_fused_layer(
    targets, ignored, rows, qkv, int8_configuration
):
    """``rows``: of the layer's int8 weight, or of its parts'; none where it is of floats."""
    given = int8_configuration("channel", False, True)
    given.config["config_groups"]["g"]["targets"] = targets
    config = KunlunCompressedTensorsConfig.from_config({**given.config, "ignore": ignored})
    config.packed_modules_mapping = given.packed_modules_mapping
    layer = qkv(config)
    if rows == [64]:
        assert layer.weight.dtype == torch.int8
    elif rows:
        assert [len(part.weight) for part in layer.parts] == rows
        kinds = {part.weight.dtype for part in layer.parts}
        assert kinds == {torch.int8, torch.float32}
    else:
        assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("targets", [["Linear"], ["lm_head"], ["re:.*head"]])
def test_a_quantised_output_projection_is_told_by_the_tensors(targets, bare, int8_configuration):
    given = int8_configuration("channel", False, True)
    given.config["config_groups"]["g"]["targets"] = targets
    config = KunlunCompressedTensorsConfig.from_config(given.config)
    head = bare(ParallelLMHead)
    assert config.get_quant_method(head, "lm_head") is None
    config.kinds = frozenset({"lm_head"})
    assert isinstance(config.get_quant_method(head, "lm_head"), KunlunHeadMethod)
    assert isinstance(head.scheme, KunlunW8A8Int8)
    config.ignore = ["lm_head"]
    assert config.get_quant_method(head, "lm_head") is None


def test_vllm_is_not_asked_about_an_embedding(bare, int8_configuration, monkeypatch):
    """0.33 has a method for one of packed words, in triton, and an error for any other."""

    def asked(*_):
        raise AssertionError

    monkeypatch.setattr(CompressedTensorsConfig, "get_quant_method", asked)
    config = int8_configuration("channel", False, True)
    assert config.get_quant_method(bare(VocabParallelEmbedding), "model.embed_tokens") is None
