# SPDX-License-Identifier: Apache-2.0
"""Collectives of two ranks on this host, as vLLM sets them up for tensor parallelism."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vllm_kunlun.platforms import communicator

RANKS = 2

CHILD = """
import json, sys, torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import (
    get_tp_group, init_distributed_environment, initialize_model_parallel,
    tensor_model_parallel_all_gather, tensor_model_parallel_all_reduce,
)
from vllm.platforms import current_platform

rank, ranks, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with set_current_vllm_config(VllmConfig()):
    init_distributed_environment(ranks, rank, meeting, rank, current_platform.dist_backend)
    initialize_model_parallel(ranks)
group = get_tp_group()
communicator = group.device_communicator

def part(of):
    generator = torch.Generator().manual_seed(of)
    return torch.randn(3, 4, 6, generator=generator)

parts = [part(each) for each in range(ranks)]
mine = parts[rank]
equal = {}

given = mine.clone()
summed = communicator.all_reduce(given)
equal["all_reduce"] = torch.allclose(summed, sum(parts), rtol=0, atol=1e-6)
equal["all_reduce is in place"] = summed is given
half = communicator.all_reduce(mine.half())
equal["all_reduce in float16"] = torch.allclose(half.float(), sum(parts), atol=1e-2)
cut = mine[:, :2].transpose(0, 1).contiguous()
equal["all_reduce of another shape"] = torch.allclose(
    communicator.all_reduce(cut), sum(parts)[:, :2].transpose(0, 1), atol=1e-6
)
for dim in (0, 1, 2, -1):
    equal[f"all_gather along {dim}"] = torch.equal(
        communicator.all_gather(mine, dim), torch.cat(parts, dim)
    )
    gathered = communicator.gather(mine, 0, dim)
    equal[f"gather along {dim}"] = (
        torch.equal(gathered, torch.cat(parts, dim)) if rank == 0 else gathered is None
    )
with torch.inference_mode():  # as vLLM's workers call them
    inside = mine.clone()
    gathered = communicator.all_gather(inside, 1)
    equal["all_gather in inference mode"] = torch.equal(gathered, torch.cat(parts, 1))
    gathered = communicator.gather(inside, 0, 1)
    equal["gather in inference mode"] = rank or torch.equal(gathered, torch.cat(parts, 1))
    equal["all_reduce in inference mode"] = torch.allclose(
        communicator.all_reduce(inside.clone()), sum(parts), rtol=0, atol=1e-6
    )
equal["vllm's all_reduce"] = torch.allclose(
    tensor_model_parallel_all_reduce(mine.clone()), sum(parts), rtol=0, atol=1e-6
)
equal["vllm's all_gather"] = torch.equal(
    tensor_model_parallel_all_gather(mine), torch.cat(parts, -1)
)
equal["broadcast"] = torch.equal(group.broadcast(mine.clone(), 0), parts[0])
# Ranks with one row and with three, and with as many.
uneven = [1, 3]
rows = [torch.full((n, 2), of + 1.0) for of, n in enumerate(uneven)]
equal["all_gatherv"] = torch.equal(
    communicator.all_gatherv(rows[rank], 0, uneven), torch.cat(rows)
)
several = communicator.all_gatherv([mine, mine * 2], 0, [3, 3])
equal["all_gatherv of several"] = torch.equal(several[1], 2 * torch.cat(parts))
both = torch.cat(rows)
first = sum(uneven[:rank])
equal["reduce_scatterv"] = torch.equal(
    communicator.reduce_scatterv(both * (rank + 1), 0, uneven),
    3 * both[first : first + uneven[rank]],
)
even = communicator.reduce_scatterv(both.clone(), 0)
equal["reduce_scatterv without sizes"] = torch.equal(even, 2 * both[2 * rank : 2 * rank + 2])
torch.distributed.barrier()
print(json.dumps({"class": type(communicator).__name__, "equal": equal}), flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    script = folder / "child.py"
    script.write_text(CHILD)
    children = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(RANKS), f"file://{folder}/meeting"],
            env={**os.environ, "VLLM_KUNLUN_DEVICE": "emulated", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        results = [child.communicate(timeout=300) for child in children]
    finally:
        for child in children:
            child.kill()
    for child, (_, errors) in zip(children, results, strict=True):
        assert child.returncode == 0, errors[-3000:]
    return [json.loads(output.strip().splitlines()[-1]) for output, _ in results]


def test_vllm_uses_our_communicator(outcomes: list[dict[str, Any]]) -> None:
    assert [outcome["class"] for outcome in outcomes] == ["KunlunCommunicator"] * RANKS


@pytest.mark.parametrize("rank", range(RANKS))
def test_collectives_equal_torch(rank: int, outcomes: list[dict[str, Any]]) -> None:
    equal = outcomes[rank]["equal"]
    assert len(equal) == 22
    assert [name for name, holds in equal.items() if not holds] == []


def test_a_rank_of_the_group_is_named_by_its_rank_in_the_world(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(communicator.dist, "broadcast", lambda _, src, group: sent.append(src))
    group = object.__new__(communicator.KunlunCommunicator)
    group.ranks, group.device_group = [4, 7], None
    group.broadcast(torch.ones(1), src=1)
    assert sent == [7]


def test_tokens_go_to_the_experts_of_other_ranks_and_come_back() -> None:
    """vLLM's base class hands them back as they came, in silence."""
    asked: list[tuple[Any, ...]] = []

    class Manager:
        def dispatch(self, *arguments: Any) -> str:
            asked.append(arguments)
            return "dispatched"

        def dispatch_router_logits(self, *arguments: Any) -> str:
            asked.append(("logits", *arguments))
            return "dispatched"

        def combine(self, *arguments: Any) -> str:
            asked.append(arguments)
            return "combined"

    group: Any = object.__new__(communicator.KunlunCommunicator)
    group.all2all_manager = Manager()
    assert group.dispatch("states", "weights", "ids", True) == "dispatched"
    assert group.dispatch_router_logits("states", "scores", True) == "dispatched"
    assert group.combine("states", True) == "combined"
    assert asked == [
        ("states", "weights", "ids", True),
        ("logits", "states", "scores", True),
        ("states", True),
    ]
