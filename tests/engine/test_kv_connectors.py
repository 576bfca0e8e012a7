# SPDX-License-Identifier: Apache-2.0
"""Keys and values that another engine computed, or that left the device, give the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import VOCABULARY
from support.engine import engine, greedy
from support.reference import Reference

NEW_TOKENS = 8
LENGTHS = [70, 130, 20, 64, 100, 65, 1, 32, 33]


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return [[3 + (7 * i + n) % (VOCABULARY - 3) for i in range(n)] for n in LENGTHS]


def hits(llm: Any) -> int:
    """Tokens that were not computed here, by vLLM's count."""
    return next(m.value for m in llm.get_metrics() if m.name == "vllm:external_prefix_cache_hits")


def over(folder: Path, role: str) -> dict[str, Any]:
    return {
        "kv_connector": "ExampleConnector",
        "kv_role": role,
        "kv_connector_extra_config": {"shared_storage_path": str(folder)},
    }


def serving(folder: Path, connector: dict[str, Any], **options: Any) -> Any:
    return engine(
        folder,
        kv_transfer_config=connector,
        disable_log_stats=False,
        **{"block_size": 32, **options},
    )


@pytest.mark.parametrize(
    "name",
    ["qwen3", *(pytest.param(n, marks=pytest.mark.slow) for n in ("deepseek-v2-lite", "gemma2"))],
)
def test_one_engine_reads_prompts_and_another_goes_on(name, checkpoint, prompts, tmp_path):
    folder = checkpoint(name)
    reference = Reference(folder)
    expected = [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
    longer = prompts[3][:40] + prompts[0][:25]  # a block of it is stored, and not the next one
    options = {"block_size": 64} if name.startswith("deepseek") else {}
    with serving(folder, over(tmp_path, "kv_producer"), **options) as llm:
        assert greedy(llm, prompts, 1) == [tokens[:1] for tokens in expected]
    with serving(folder, over(tmp_path, "kv_consumer"), **options) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        assert hits(llm) > sum(LENGTHS) / 2
        assert greedy(llm, [longer], NEW_TOKENS) == [reference.greedy(longer, NEW_TOKENS)]


@pytest.mark.parametrize("block", [32, 64], ids=["a-block", "two-blocks"])
def test_pages_come_back_from_host_memory(block, checkpoint, prompts):
    """The device has room for one prompt or two; all of them stay on the host."""
    folder = checkpoint("qwen3")
    reference = Reference(folder)
    expected = [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
    connector = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 8 * 2**20, "block_size": block},
    }
    a_block = 2 * 32 * 32 * 4 * 3  # keys and values of 32 tokens, 32 floats each, in 3 layers
    with serving(
        folder, connector, kv_cache_memory_bytes=10 * a_block, max_num_seqs=2, max_model_len=192
    ) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        before = hits(llm)
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        assert hits(llm) - before > sum(LENGTHS) / 2
