# SPDX-License-Identifier: Apache-2.0
"""What the checkpoint of a draft head may leave out, because vLLM takes it from the target."""

from __future__ import annotations

import torch
from vllm.config import ModelConfig
from vllm.distributed import get_pp_group
from vllm.transformers_utils.configs.eagle import EAGLEConfig

__all__ = ["of_the_target"]


def of_the_target(model: torch.nn.Module, model_config: ModelConfig) -> set[str]:
    """Names of parameters that an EAGLE or EAGLE-3 head gets without its checkpoint.

    The output projection is the target's. So is the embedding, unless the target's is on another
    pipeline stage. Without a table of its own tokens (``d2t``) a head speaks the target's, which
    holds for as large a vocabulary only. Of any other model: none.
    """
    head = getattr(model_config, "hf_config", None)
    if not isinstance(head, EAGLEConfig):
        return set()
    names = {"lm_head.weight"}
    if get_pp_group().world_size == 1:
        names.add("model.embed_tokens.weight")
    table = getattr(model, "draft_id_to_target_id", None)
    if table is not None and table.shape[0] == head.vocab_size:
        names.add("draft_id_to_target_id")
    return names
