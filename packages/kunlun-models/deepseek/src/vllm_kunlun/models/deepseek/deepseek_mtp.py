# SPDX-License-Identifier: Apache-2.0
"""DeepSeek's multi-token-prediction draft model with an int8 indexer, where it has one."""

from __future__ import annotations

from vllm.config import VllmConfig
from vllm.model_executor.models.deepseek_mtp import DeepSeekMTP

from vllm_kunlun.mla.indexer_layer import replace_indexers

__all__ = ["KunlunDeepSeekMTP"]


class KunlunDeepSeekMTP(DeepSeekMTP):
    """vLLM's draft model of V3 and V3.2; an indexer quantises to int8, as in the target."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        replace_indexers(self)
