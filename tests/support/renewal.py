# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of one shape in every form, and an engine that is given another one's weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from support import checkpoints, formats, quantised, w8a8
from support.engine import greedy
from vllm import LLM

__all__ = ["FORMS", "NEW_TOKENS", "answers", "load", "reload_from", "state", "write"]

NEW_TOKENS = 6

FORMS = {
    "awq": quantised.Scheme("awq", group=16),
    "gptq": quantised.Scheme("gptq", group=16),
    "gptq-8": quantised.Scheme("gptq", bits=8, group=16, symmetric=True),
    "gptq-desc-act": quantised.Scheme("gptq", group=16, desc_act=True, symmetric=True),
    "w4a16": quantised.Scheme("compressed-tensors", group=16, symmetric=True),
    "w4a16-zero-points": quantised.Scheme("compressed-tensors", group=16),
}


def write(name: str, form: str, top: Path, seed: int) -> Path:
    source = checkpoints.write(name, top / f"float{seed}", seed=seed)
    if form == "float":
        return source
    if form in formats.PACKED:
        return formats.write(source, top / f"packed{seed}", formats.PACKED[form])[0]
    if form == "w8a8":
        return w8a8.quantise(source, top / f"w8a8{seed}", w8a8.Scheme())
    return quantised.write(source, top / f"packed{seed}", FORMS[form])[0]


def answers(llm: LLM, prompts: Sequence[list[int]]) -> list[list[int]]:
    assert llm.reset_prefix_cache()  # its blocks are the old weights'
    return greedy(llm, list(prompts), NEW_TOKENS)


def load(llm: LLM, tensors: dict[str, torch.Tensor]) -> None:
    """As a loop of reinforcement learning does."""
    weights = list(tensors.items())
    llm.apply_model(lambda model: model.load_weights(weights))


def reload_from(llm: LLM, folder: Path) -> None:
    llm.collective_rpc(_point_to, args=(str(folder),))
    llm.collective_rpc("reload_weights")


def _point_to(worker: Any, folder: str) -> None:
    worker.model_runner.model_config.model = folder


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
