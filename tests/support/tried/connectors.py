# SPDX-License-Identifier: Apache-2.0
"""Keys and values that leave an engine and come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support import checkpoints
from support.engine import engine, greedy
from support.tried import judged

__all__ = ["TRIED"]


def _from_outside(llm: Any) -> int:
    name = "vllm:external_prefix_cache_hits"
    return next(metric.value for metric in llm.get_metrics() if metric.name == name)


def _over_a_folder(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder / "model")
    expected = judged.expected(source, prompts)
    shared = {"shared_storage_path": str(folder / "shared")}
    (folder / "shared").mkdir()
    for role, count in (("kv_producer", 1), ("kv_consumer", 8)):
        connector = {"kv_connector": "ExampleConnector", "kv_role": role}
        connector |= {"kv_connector_extra_config": shared}
        with engine(
            source, kv_transfer_config=connector, disable_log_stats=False, block_size=16
        ) as llm:
            judged.agree(greedy(llm, prompts, count), [each[:count] for each in expected])
            found = _from_outside(llm)
    assert found > 0


def _over_host_memory(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    expected = judged.expected(source, prompts)
    connector = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 8 * 2**20},
    }
    a_block = 2 * 16 * 32 * 4 * 3
    with engine(
        source,
        kv_transfer_config=connector,
        disable_log_stats=False,
        block_size=16,
        kv_cache_memory_bytes=10 * a_block,
        max_num_seqs=2,
        max_model_len=96,
    ) as llm:
        for _ in range(2):
            judged.agree(greedy(llm, prompts, 8), expected)
        assert _from_outside(llm) > 0


def _another_connector(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    connector = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
    with engine(source, kv_transfer_config=connector):
        pass


TRIED = {
    "folder connector": _over_a_folder,
    "host-memory connector": _over_host_memory,
    "other connectors": _another_connector,
}
