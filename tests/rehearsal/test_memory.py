# SPDX-License-Identifier: Apache-2.0
"""What a rehearsed card holds once its engine has started: weights, a cache, one pass's results."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from support import checkpoints
from support.engine import engine, greedy
from vllm.config import CUDAGraphMode

from vllm_kunlun.platforms.weight_memory import weight_bytes

MIB = 2**20
TOTAL_MIB, SHARE = 64, 0.5
MOST_TOKENS = 256
CAPTURED = [1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128]
"""Graphs that each kept their own results would hold those of 591 tokens; of 128 is enough."""

WIDE = transformers.Qwen3Config(
    vocab_size=checkpoints.VOCABULARY, hidden_size=256, intermediate_size=2048,
    num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, head_dim=32,
    max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
"""Wide beside its weights, so that what its layers compute is seen among them."""


def bytes_of(caches: list[Any]) -> int:
    """Memory of tensors, each once."""
    storages = {each.data_ptr(): each.untyped_storage().nbytes() for each in caches}
    return sum(storages.values())


def bytes_of_a_pass(runner: Any, tokens: int) -> int:
    """The most that a forward pass without a graph has in use at once."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    runner._dummy_run(tokens, cudagraph_runtime_mode=CUDAGraphMode.NONE)
    return torch.cuda.max_memory_allocated() - before


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """vLLM's runner, of an engine that sized its cache by itself and has answered."""
    if torch.cuda.memory_allocated():
        pytest.skip("another test's engine has run in this process: run this file alone")
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", str(TOTAL_MIB / 1024))
    folder = checkpoints.write_configuration(WIDE, tmp_path)
    with engine(
        folder, enforce_eager=False, kv_cache_memory_bytes=None, gpu_memory_utilization=SHARE,
        max_num_batched_tokens=MOST_TOKENS, max_num_seqs=64,
        compilation_config={"cudagraph_capture_sizes": CAPTURED},
    ) as llm:  # fmt: skip
        greedy(llm, [[5, 6, 7], [8] * 40], 6)
        core: Any = llm.llm_engine.engine_core.engine_core
        yield core.model_executor.driver_worker.worker.model_runner


def test_graphs_hold_the_results_of_one_pass(runner):
    held = torch.cuda.memory_allocated()
    weights = weight_bytes(runner.get_model())
    cache = bytes_of(runner.kv_caches)
    largest = bytes_of_a_pass(runner, max(CAPTURED))
    assert weights + cache <= held, "the count lacks some of it"
    assert held <= 1.05 * (weights + cache + largest)
    assert torch.cuda.mem_get_info() == (TOTAL_MIB * MIB - held, TOTAL_MIB * MIB)
    # The cache is what was left beside the weights and the largest pass that may come.
    given, profiled = TOTAL_MIB * MIB * SHARE, bytes_of_a_pass(runner, MOST_TOKENS)
    assert weights + cache + profiled == pytest.approx(given, rel=0.05)
