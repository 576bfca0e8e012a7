# SPDX-License-Identifier: Apache-2.0
"""Positions for which a loaded model has no row in its table."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["check", "rows"]

_LEARNED = ("wpe", "embed_positions")
"""What models call an embedding of positions."""


def check(model: torch.nn.Module, max_model_len: int) -> None:
    """Refuse requests longer than the model's tables of positions, which vLLM can be told to take.

    Raises: UnsupportedError: with the length that the tables allow.
    """
    shortest = min(rows(model), default=max_model_len)
    if shortest < max_model_len:
        raise UnsupportedError(
            f"--max-model-len {max_model_len}: the model has a table of {shortest} positions, and "
            f"a token beyond it would end the engine. Use --max-model-len {shortest}, or say by "
            "--hf-overrides how its rotary embedding is stretched (max_position_embeddings, "
            "rope_parameters)."
        )


def rows(model: torch.nn.Module) -> Iterator[int]:
    """The length of each table that positions of a request look up."""
    for name, module in model.named_modules():
        children = list(module.children())
        # An encoder of pictures rotates, too, and by other positions: its attention has no cache.
        if any(isinstance(child, AttentionLayerBase) for child in children):
            for child in children:
                table = getattr(child, "cos_sin_cache", None)
                if isinstance(table, torch.Tensor):
                    yield table.shape[0]
        if name.rpartition(".")[2] in _LEARNED:
            weight = getattr(module, "weight", None)
            if isinstance(weight, torch.Tensor):
                yield weight.shape[0]
