# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the vocabulary-parallel layers."""

from vllm_kunlun.ops.layers.embedding import KunlunParallelLMHead as ParallelLMHead
from vllm_kunlun.ops.layers.embedding import KunlunVocabParallelEmbedding as VocabParallelEmbedding

__all__ = ["ParallelLMHead", "VocabParallelEmbedding"]
