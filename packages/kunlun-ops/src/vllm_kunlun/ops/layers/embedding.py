# SPDX-License-Identifier: Apache-2.0
"""Vocabulary-parallel embedding on the vendor's masking function."""

from __future__ import annotations

import torch
from vllm.distributed import tensor_model_parallel_all_reduce
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)

from vllm_kunlun.ops.vocabulary import mask_input

__all__ = ["KunlunParallelLMHead", "KunlunVocabParallelEmbedding"]


class KunlunVocabParallelEmbedding(VocabParallelEmbedding):
    """Rows of this rank's slice of the vocabulary, zeros for other tokens, summed over ranks.

    With one rank there is nothing to mask and this is a plain look-up.
    """

    def forward_oot(self, input_: torch.Tensor) -> torch.Tensor:
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
        return tensor_model_parallel_all_reduce(rows)


class KunlunParallelLMHead(KunlunVocabParallelEmbedding, ParallelLMHead):
    """The output projection. Its weight is read by the logits processor; it is never called."""

    forward = ParallelLMHead.forward
