# SPDX-License-Identifier: Apache-2.0
"""A checkpoint is read and converted tensor by tensor: the model is never there twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import float8
from support.checkpoints import resized, write_configuration
from support.engine import engine
from support.memory import MemoryWatch

from vllm_kunlun.emulator.device.worker import KunlunWorker
from vllm_kunlun.platforms.weight_memory import weight_bytes

pytestmark = pytest.mark.slow

# Some 300 million weights, so that what is not weights is small beside them.
WIDE = {"hidden_size": 1024, "intermediate_size": 1024}
LARGE = {
    "deepseek-v3-even": {
        **WIDE,
        "num_hidden_layers": 6,
        "n_routed_experts": 32,
        "moe_intermediate_size": 512,
    },
    "gpt-oss": {**WIDE, "num_local_experts": 24},
}


def large(name: str, folder: Path) -> Path:
    return write_configuration(resized(name, **LARGE[name]), folder, torch.float16)


@pytest.mark.parametrize("to", ["int8", "float"])
def test_fp8(to, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_FP8_TO", to)
    warm_up(float8.write(checkpoint("deepseek-v3-even"), tmp_path / "small", "block"))
    folder = float8.write(
        large("deepseek-v3-even", tmp_path / "float"), tmp_path / "fp8", "block", (32, 32)
    )
    assert_never_twice(folder)


def test_mxfp4(checkpoint, tmp_path):
    warm_up(float8.write_mxfp4(checkpoint("gpt-oss"), tmp_path / "small"))
    assert_never_twice(float8.write_mxfp4(large("gpt-oss", tmp_path / "float"), tmp_path / "mxfp4"))


def test_plain_weights_in_bfloat16(checkpoint, tmp_path):
    """The card is reported to keep them twice; our layers do not."""
    warm_up(checkpoint("deepseek-v3-even", torch.bfloat16), "bfloat16")
    assert_never_twice(large("deepseek-v3-even", tmp_path / "float"), "bfloat16")


def warm_up(folder: Path, dtype: str = "float16") -> None:
    """Import and compile what the next engine of the kind needs, so that only it is measured."""
    with engine(folder, dtype=dtype):
        pass


def assert_never_twice(folder: Path, dtype: str = "float16") -> None:
    watched = []
    load = KunlunWorker.load_model

    def watched_load(worker: KunlunWorker) -> None:
        with MemoryWatch() as memory:
            load(worker)
        watched.append((weight_bytes(worker.model_runner.get_model()), memory))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KunlunWorker, "load_model", watched_load)
        with engine(folder, dtype=dtype):
            pass
    [(weights, memory)] = watched
    print(f"{weights / 2**20:.0f} MiB of weights, peak {memory.peak_bytes / 2**20:.0f} MiB")
    assert memory.peak_bytes < 1.4 * weights  # 1.14 alone; after other tests some 0.15 more
