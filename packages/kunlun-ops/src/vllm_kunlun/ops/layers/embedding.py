# SPDX-License-Identifier: Apache-2.0
"""Vocabulary-parallel embedding and output projection, within what the card's kernels can do."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from vllm.distributed import tensor_model_parallel_all_reduce
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)

from vllm_kunlun.ops.contract.limits import MAX_FLOAT16_ROWS
from vllm_kunlun.ops.torch_ops.embedding import mask_input

__all__ = ["KunlunParallelLMHead", "KunlunVocabParallelEmbedding"]


class _ProjectionInParts(UnquantizedEmbeddingMethod):
    """The output projection as products of at most :data:`MAX_FLOAT16_ROWS` rows of the weight."""

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W^T + bias``: x ``[T, hidden]``, W ``[rows, hidden]`` -> ``[T, rows]``."""
        count = -(-layer.weight.shape[0] // MAX_FLOAT16_ROWS)
        weights = layer.weight.tensor_split(count)
        biases = [None] * count if bias is None else bias.tensor_split(count)
        parts = [F.linear(x, *each) for each in zip(weights, biases, strict=True)]
        return torch.cat(parts, dim=-1)


class KunlunVocabParallelEmbedding(VocabParallelEmbedding):
    """Rows of this rank's slice of the vocabulary, zeros for other tokens, summed over ranks.

    With one rank there is nothing to mask and this is a plain look-up. As an output projection
    (its own, or of a model that ties the two) it stays within :data:`MAX_FLOAT16_ROWS`.
    """

    quant_method: QuantizeMethodBase

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if (
            type(self.quant_method) is UnquantizedEmbeddingMethod
            and self.weight.dtype == torch.float16
            and self.weight.shape[0] > MAX_FLOAT16_ROWS
        ):
            self.quant_method = _ProjectionInParts()

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        """Shapes: input_ int of any shape ``[..]`` -> ``[.., hidden]``.

        Not ``forward_oot``: since 0.21 vLLM replaces this class as a whole and dispatches nothing.
        """
        if self.tp_size == 1:
            return self.quant_method.embedding(self, input_.long())
        shard = self.shard_indices
        local, absent = mask_input(
            input_,
            shard.org_vocab_start_index,
            shard.org_vocab_end_index,
            shard.num_org_vocab_padding,
            shard.added_vocab_start_index,
            shard.added_vocab_end_index,
        )
        rows = self.quant_method.embedding(self, local.long())
        rows.masked_fill_(absent.unsqueeze(-1), 0)
        # Since 0.21 a layer may leave the sum to its caller, or have a group of ranks of its own.
        if not getattr(self, "reduce_results", True):
            return rows
        group = getattr(self, "parallel_group", None)
        return tensor_model_parallel_all_reduce(rows) if group is None else group.all_reduce(rows)


class KunlunParallelLMHead(KunlunVocabParallelEmbedding, ParallelLMHead):
    """The output projection. Its weight is read by the logits processor; it is never called."""

    forward = ParallelLMHead.forward
