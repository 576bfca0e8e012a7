# SPDX-License-Identifier: Apache-2.0
"""The model as vLLM builds it for one card of several, without memory for its weights.

What a card holds is read off it: bytes of weights, and the pages of the cache that vLLM would cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vllm_kunlun.cli.assess.kinds import bytes_by_kind, widest_layer
from vllm_kunlun.cli.assess.unallocated import Unallocated
from vllm_kunlun.platforms.ranks.silent import as_rank

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheSpec

__all__ = ["Stage", "build", "configure"]


@dataclass(frozen=True)
class Stage:
    """What the first card of one pipeline stage holds.

    Attributes:
        weights: kind of parameter -> bytes.
        cache: layer -> what vLLM keeps in the cache for it.
        widest: elements that the widest layer reads and writes for one token.
        model_class: ``module:Class`` that was built.
    """

    weights: dict[str, int]
    cache: dict[str, KVCacheSpec]
    widest: int
    model_class: str

    @property
    def weight_bytes(self) -> int:
        return sum(self.weights.values())


def configure(folder: Path, options: dict[str, Any]) -> VllmConfig:
    """vLLM's configuration of an engine with ``options``, after our platform's checks.

    Args:
        folder: with config.json; weights and tokenizer are not looked at.
        options: fields of ``EngineArgs``.

    Raises:
        ValueError: vLLM or our platform refuses it (``UnsupportedError`` is one in its chain).
    """
    from vllm.engine.arg_utils import EngineArgs

    from vllm_kunlun.platforms.vllm_compat.swap_space import none_taken

    return EngineArgs(
        model=str(folder), skip_tokenizer_init=True, load_format="dummy",
        distributed_executor_backend="mp", **none_taken(), **options,
    ).create_engine_config()  # fmt: skip


def build(config: VllmConfig) -> list[Stage]:
    """Each pipeline stage of the model.

    Raises:
        ValueError: a layer cannot be cut for so many cards, or the card lacks what it needs.
    """
    parallel = config.parallel_config
    stages = []
    for stage in range(parallel.pipeline_parallel_size):
        config.compilation_config.static_forward_context.clear()
        with as_rank(parallel.tensor_parallel_size, parallel.pipeline_parallel_size, stage):
            stages.append(_stage(config))
    return stages


def _stage(config: VllmConfig) -> Stage:
    from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.model_executor.model_loader.utils import initialize_model

    with set_current_vllm_config(config), _default(config.model_config.dtype), Unallocated():
        model = initialize_model(config)
        layers = get_layers_from_vllm_config(config, AttentionLayerBase)  # type: ignore[type-abstract]
        found = {name: layer.get_kv_cache_spec(config) for name, layer in layers.items()}
    return Stage(
        bytes_by_kind(model),
        {name: spec for name, spec in found.items() if spec is not None},
        widest_layer(model),
        f"{type(model).__module__}:{type(model).__qualname__}",
    )


@contextlib.contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """Parameters without a dtype of their own are of ``dtype``, also where a layer is refused."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
