# SPDX-License-Identifier: Apache-2.0
"""What an emulated device takes of its host when the user says nothing about memory."""

from __future__ import annotations

from support.engine import engine, greedy
from support.memory import anonymous_bytes
from support.reference import Reference

MIB = 2**20


def test_a_cache_is_as_large_as_its_requests_and_costs_what_is_used(checkpoint, prompts):
    model = checkpoint("qwen3")
    defaults = {"kv_cache_memory_bytes": None, "max_num_seqs": 256}
    with engine(model):  # what is imported and compiled once counts for neither
        pass
    before = anonymous_bytes()
    with engine(model, **defaults) as llm:
        answers = greedy(llm, prompts, 8)
        grown = anonymous_bytes() - before
        config = llm.llm_engine.vllm_config
        cached_tokens = config.cache_config.num_gpu_blocks * config.cache_config.block_size
    reference = Reference(model)
    assert answers == [reference.greedy(prompt, 8) for prompt in prompts]
    everything = config.scheduler_config.max_num_seqs * config.model_config.max_model_len
    assert everything <= cached_tokens <= 3 * everything
    assert grown < 512 * MIB
