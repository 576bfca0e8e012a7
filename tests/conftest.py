# SPDX-License-Identifier: Apache-2.0
"""Settings of the whole-engine tests: offline, one process, checkpoints made once per run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.hung import (  # noqa: F401
    pytest_runtest_makereport,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_KUNLUN_DEVICE", "emulated")
os.environ.setdefault("PYTHONFAULTHANDLER", "1")


SLOW_SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests, and the cells of the support matrix, more time than pyproject.toml does."""
    for item in items:
        if any(map(item.get_closest_marker, ("slow", "matrix"))):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``checkpoint(name, dtype)``: the folder of a tiny random model, made on first use."""
    from support import checkpoints

    made: dict[tuple[str, torch.dtype], Path] = {}

    def make(name: str, dtype: torch.dtype = torch.float32) -> Path:
        if (name, dtype) not in made:
            folder = tmp_path_factory.mktemp(f"{name}-{str(dtype).rpartition('.')[2]}")
            made[name, dtype] = checkpoints.write(name, folder, dtype)
        return made[name, dtype]

    return make


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Ten prompts of 1 to 61 tokens of the tiny vocabulary."""
    from support.checkpoints import VOCABULARY

    generator = torch.Generator().manual_seed(7)
    lengths = [1, 2, 5, 15, 16, 17, 31, 33, 48, 61]
    return [
        torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths
    ]


@pytest.fixture(scope="session")
def crowd() -> list[list[int]]:
    """Eight prompts that fill most of a page of 64: each needs a second one soon."""
    from support.checkpoints import VOCABULARY

    generator = torch.Generator().manual_seed(17)
    return torch.randint(3, VOCABULARY, (8, 58), generator=generator).tolist()


@pytest.fixture(scope="session")
def matrix():
    """The support matrix as it is on the disk; its cells are written there one by one."""
    import transformers
    import vllm
    from support.matrix import Matrix

    return Matrix.begin(vllm.__version__, transformers.__version__)
