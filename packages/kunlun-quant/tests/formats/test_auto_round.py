# SPDX-License-Identifier: Apache-2.0
"""auto-round's configuration as that of the format that its weights are packed in."""

from __future__ import annotations

import pytest
from vllm.model_executor.layers.quantization.utils.gptq_utils import get_dynamic_override

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.formats.auto_round import KunlunINCConfig
from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig

SETTINGS = {"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": True}
AWQ = {"packing_format": "auto_round:auto_awq"}


def test_gptq():
    made = KunlunINCConfig.from_config(SETTINGS)
    assert type(made) is KunlunGPTQConfig
    assert (made.weight_bits, made.group_size, made.desc_act) == (4, 32, False)
    assert made.checkpoint_format == "gptq"


def test_awq():
    made = KunlunINCConfig.from_config({**SETTINGS, **AWQ})
    assert type(made) is KunlunAWQConfig
    assert (made.weight_bits, made.group_size) == (4, 32)


def test_single_layers_are_rules():
    layers = {
        ".*mlp": {"bits": 8, "sym": True},
        "model.layers.0.mlp.up": {"bits": 4, "group_size": 64},
        "model.layers.1.o": {"bits": 16, "data_type": "float"},
    }
    made = KunlunINCConfig.from_config({**SETTINGS, "extra_config": layers})

    def of(name):
        return get_dynamic_override(made, name)

    assert of("model.layers.0.mlp.up") == {"bits": 4, "group_size": 64}
    assert of("model.layers.0.mlp.upper") == {"bits": 8}
    assert of("model.layers.1.o") is False
    assert of("model.layers.1.q") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_type": "nv_fp"}, "data_type='nv_fp'.*Export W4A16"),
        ({"act_bits": 8}, "act_bits=8.*llm_compressor"),
        ({"packing_format": "auto_round"}, "packing_format='auto_round':.*--format auto_gptq"),
        ({"bits": 2}, "GPTQ with 2 bits"),
        ({**AWQ, "extra_config": {"a.b": {"group_size": 64}}}, "a.b: auto-round with .*auto_gptq"),
    ],
)
def test_what_is_not_implemented_is_refused(change, message):
    with pytest.raises(UnsupportedError, match=message):
        KunlunINCConfig.from_config({**SETTINGS, **change})


def test_layers_in_floats_do_not_matter_to_awq():
    layers = {"a.b": {"bits": 16}, "a.c": {"bits": 4, "sym": False}}
    KunlunINCConfig.from_config({**SETTINGS, **AWQ, "extra_config": layers})
