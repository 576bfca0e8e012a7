# SPDX-License-Identifier: Apache-2.0
"""The family is found by entry point, under the architectures that checkpoints name."""

from __future__ import annotations

import transformers

from vllm_kunlun.models.gpt_oss.family import family
from vllm_kunlun.platforms.families import family_for


def test_found_by_the_architecture_that_transformers_writes():
    assert family_for("GptOssForCausalLM") == family()
    assert hasattr(transformers, "GptOssForCausalLM")
