# SPDX-License-Identifier: Apache-2.0
"""DeepSeek-V3.2 and GLM-5 with an int8 indexer. All else is vLLM's class."""

from __future__ import annotations

from vllm.config import VllmConfig
from vllm.model_executor.models.deepseek_v2 import DeepseekV3ForCausalLM

from vllm_kunlun.mla.indexer_layer import replace_indexers

__all__ = ["KunlunDeepseekV32ForCausalLM"]


class KunlunDeepseekV32ForCausalLM(DeepseekV3ForCausalLM):
    """vLLM's DeepSeek-V3.2; its indexers quantise to int8, because the card lacks fp8."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        replace_indexers(self)
