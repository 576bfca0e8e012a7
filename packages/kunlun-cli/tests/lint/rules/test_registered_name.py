# SPDX-License-Identifier: Apache-2.0
"""``registered-name``: capitals, and a configuration that lies beside."""

import json

PLANTED = """\
from vllm import ModelRegistry

ModelRegistry.register_model("Qwen3ForCausalLm", "mine.qwen3:MyQwen3")
"""
MENDED = PLANTED.replace("CausalLm", "CausalLM")


def test_a_name_that_differs_in_capitals_is_found(found):
    assert found("registered-name", PLANTED) == [
        (3, "Qwen3ForCausalLm is written Qwen3ForCausalLM in config.json")
    ]
    assert found("registered-name", MENDED) == []


def test_the_configuration_beside_it_decides(found, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["OtherForCausalLM"]}))
    assert found("registered-name", MENDED) == [
        (3, "config.json beside this file asks for OtherForCausalLM")
    ]
    assert found("registered-name", MENDED.replace("Qwen3F", "OtherF")) == []


def test_a_name_of_ones_own_is_well(found):
    assert found("registered-name", PLANTED.replace("Qwen3ForCausalLm", "MineForCausalLM")) == []
