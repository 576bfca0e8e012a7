# SPDX-License-Identifier: Apache-2.0
"""They are the classes that vLLM's models make, and the function that its op runs."""

from __future__ import annotations

import torch
from vllm.model_executor.layers import mla
from vllm.model_executor.models import qwen3

from vllm_kunlun.platforms.vllm_compat import attention_layer


def test_they_are_those_of_the_models() -> None:
    assert qwen3.Attention is attention_layer.Attention
    assert mla.MLAAttention is attention_layer.MLAAttention


def test_the_function_is_that_of_the_op() -> None:
    assert torch.ops.vllm.unified_attention_with_output.default._schema.name.endswith(
        attention_layer.unified_attention_with_output.__name__
    )
