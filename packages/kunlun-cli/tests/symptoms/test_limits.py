# SPDX-License-Identifier: Apache-2.0
"""Answers that end early, and memory: the figure that decides is in the line."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.symptoms import limits


def found(checks):
    return {check.name: check for check in checks}


def silent(_):
    pass


def test_what_a_card_holds(folder, assessed):
    assessed()
    check = found(limits.memory(folder(), silent))["memory"]
    assert check.status == "ok"
    assert "weights 16.0, steps 2.0, cache 64.0 GiB on each, 3.0 requests of 4,096" in check.detail
    assessed(fits=False, requests=0.0)
    check = found(limits.memory(folder(), silent))["memory"]
    assert (check.status, "quantised" in check.fix) == ("fail", True)
    assessed(refused="heads do not divide", fits=False)
    check = found(limits.memory(folder(), silent))["memory"]
    assert (check.status, check.detail) == ("fail", "heads do not divide")


def test_what_doubles_memory(folder, assessed):
    assessed()
    assert set(found(limits.memory(folder(), silent))) == {"memory"}
    checks = found(limits.memory(folder(torch_dtype="bfloat16", kv_lora_rank=8), silent))
    assert "32.0 GiB" in checks["bfloat16"].detail
    assert checks["bfloat16"].fix == "--dtype float16"
    assert "VLLM_KUNLUN_ENABLE_INT8_BMM=1" in checks["latent attention"].fix


def test_a_length_that_no_card_holds_cuts_answers(folder, assessed):
    assessed()
    checks = found(limits.truncated(folder(max_position_embeddings=4096), silent))
    assert checks["max_model_len"].status == "ok"
    assert "4096 tokens" in checks["max_model_len"].detail
    assert "9,000" in checks["max_model_len"].detail
    assert checks["max_tokens"].status == "warn"
    assessed(fits=False)
    assert found(limits.truncated(folder(), silent))["max_model_len"].status == "fail"


@pytest.mark.parametrize(
    ("config", "generation", "status"),
    [
        ({"eos_token_id": 2}, None, "ok"),
        ({"eos_token_id": 2}, {"eos_token_id": [2, 3]}, "ok"),
        ({"eos_token_id": 2}, {"eos_token_id": [4, 3]}, "fail"),
        ({"text_config": {"eos_token_id": 2}}, {"eos_token_id": 3}, "fail"),
        ({}, {}, "warn"),
        ({}, {"eos_token_id": 0}, "ok"),
    ],
)
def test_ends_of_a_text_that_two_files_name_otherwise(folder, assessed, config, generation, status):
    assessed()
    path = folder(**config)
    if generation is not None:
        folder("generation_config.json", **generation)
    assert found(limits.truncated(path, silent))["end of text"].status == status
