# SPDX-License-Identifier: Apache-2.0
"""A quantised output projection: a linear layer whose rows are the vocabulary, padded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.linear import LinearMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

__all__ = ["KunlunHeadMethod"]


class KunlunHeadMethod(LinearMethodBase):
    """``method`` of a linear layer, with a loader for a projection onto the vocabulary.

    vLLM's own loader of that layer fills up rows, and packed weights have the vocabulary along
    their columns.
    """

    def __init__(self, method: LinearMethodBase, prefix: str) -> None:
        self.method, self.prefix = method, prefix

    def create_weights(
        self, layer: torch.nn.Module, *args: Any, weight_loader: Any, **keywords: Any
    ) -> None:
        layer.prefix, layer.skip_bias_add = self.prefix, False

        def load(param: torch.nn.Parameter, loaded: Tensor) -> None:
            _load(layer, param, loaded)

        self.method.create_weights(layer, *args, weight_loader=load, **keywords)
        if not hasattr(layer, "weight"):
            # vLLM asks it for the dtype and the device of an adapter's projection.
            layer.weight = torch.empty(0, dtype=keywords["params_dtype"])

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        self.method.process_weights_after_loading(layer)

    def apply(self, layer: torch.nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x W + bias``. Shapes: x ``[.., K]``, bias ``[rows]``; the result is ``[.., rows]``."""
        return self.method.apply(layer, x, bias)


def _load(layer: ParallelLMHead, param: Any, loaded: Tensor) -> None:
    """This rank's words of ``loaded``, and zeros for the words that no token has."""
    dim = getattr(param, "output_dim", None)
    if dim is None or loaded.dim() <= dim or loaded.shape[dim] == 1:
        param.data.copy_(loaded.reshape(param.shape))
        return
    packed = param.packed_factor if getattr(param, "packed_dim", None) == dim else 1
    shard = layer.shard_indices
    first, last = shard.org_vocab_start_index, shard.org_vocab_end_index
    words = loaded.narrow(dim, int(first // packed), int((last - first) // packed))
    param.data.narrow(dim, 0, words.shape[dim]).copy_(words)
    rest = param.shape[dim] - words.shape[dim]
    param.data.narrow(dim, words.shape[dim], rest).zero_()
