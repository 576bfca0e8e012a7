# SPDX-License-Identifier: Apache-2.0
"""A checkpoint loaded as an engine's worker does it, without an engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from vllm.config import set_current_vllm_config
from vllm.distributed import (
    destroy_distributed_environment,
    destroy_model_parallel,
    init_distributed_environment,
    initialize_model_parallel,
)
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader import get_model_loader
from vllm.plugins import load_general_plugins

from vllm_kunlun.cli.ports import free_port

__all__ = ["judged", "load"]


def load(folder: Path, **options: Any) -> tuple[torch.nn.Module, list[bool]]:
    """The model, its weights loaded; and, for each look at the checkpoint, whether it was a real
    one: ``[False]`` says that names and shapes were enough.

    Args:
        options: of ``EngineArgs``.
    """
    load_general_plugins()
    given = {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": "float32",
        "max_model_len": 64,
        "enforce_eager": True,
        **options,
    }
    config = EngineArgs(**given).create_engine_config()
    with _one_rank(config), judged() as looks:
        loader = get_model_loader(config.load_config)
        return loader.load_model(vllm_config=config, model_config=config.model_config), looks


@contextlib.contextmanager
def judged() -> Iterator[list[bool]]:
    """What :func:`load` says of the looks at a checkpoint, in this block."""
    from vllm_kunlun.platforms.loading.loader import KunlunModelLoader

    looks: list[bool] = []
    original = KunlunModelLoader._judge

    def judge(self: Any, *args: Any, real: bool) -> bool:
        looks.append(real)
        return original(self, *args, real=real)

    KunlunModelLoader._judge = judge
    try:
        yield looks
    finally:
        KunlunModelLoader._judge = original


@contextlib.contextmanager
def _one_rank(config: Any) -> Iterator[None]:
    address = f"tcp://127.0.0.1:{free_port()}"
    with set_current_vllm_config(config):
        try:
            init_distributed_environment(1, 0, address, 0, "gloo")
            initialize_model_parallel(1, 1)
            yield
        finally:
            destroy_model_parallel()
            destroy_distributed_environment()
