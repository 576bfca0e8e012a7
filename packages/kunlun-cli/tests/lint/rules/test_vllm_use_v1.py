# SPDX-License-Identifier: Apache-2.0
"""``vllm-use-v1``: where it is looked up, not where it is spoken of."""

PLANTED = """\
import os
from vllm import envs

if envs.VLLM_USE_V1 or os.environ["VLLM_USE_V1"] == "1" or os.getenv("VLLM_USE_V1"):
    pass
"""
MENDED = '''\
"""VLLM_USE_V1 is gone."""

GONE = {"VLLM_USE_V1": "vLLM has one engine"}
'''


def test_each_use_is_found(found):
    assert found("vllm-use-v1", PLANTED) == [(4, "VLLM_USE_V1 is used")] * 3


def test_a_text_about_it_is_well(found):
    assert found("vllm-use-v1", MENDED) == []
