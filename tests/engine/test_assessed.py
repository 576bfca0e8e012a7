# SPDX-License-Identifier: Apache-2.0
"""What ``vllm-kunlun assess`` says a token takes of the cache, against what an engine allocated."""

from __future__ import annotations

import pytest
from support.engine import engine

from vllm_kunlun.cli.assess.built import build, configure
from vllm_kunlun.cli.assess.fit import fit

OPTIONS = {"dtype": "float16", "max_model_len": 256, "block_size": 64}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3", "qwen3-moe", "deepseek-v2"])
def test_bytes_of_a_token(checkpoint, name):
    folder = checkpoint(name)
    config = configure(folder, OPTIONS)
    found = fit(config, build(config))
    with engine(folder, **OPTIONS) as llm:
        cache = llm.llm_engine.engine_core.engine_core.scheduler.kv_cache_config
        allocated = sum(tensor.size for tensor in cache.kv_cache_tensors)
    assert found.bytes_per_token == allocated / (cache.num_blocks * 64)
