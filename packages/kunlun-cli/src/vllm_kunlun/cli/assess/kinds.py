# SPDX-License-Identifier: Apache-2.0
"""Parameters by what they are for."""

from __future__ import annotations

import torch

__all__ = ["KINDS", "bytes_by_kind", "widest_layer"]

KINDS = ("embedding", "output projection", "attention", "experts", "feed-forward", "vision", "rest")
"""Every kind of parameter, in the order of reports."""

_WORDS = {
    "vision": ("visual", "vision", "vit", "mm_projector", "multi_modal_projector", "audio"),
    "attention": ("attn", "attention", "mixer", "mamba", "linear_attn", "temporal_block"),
    "feed-forward": ("mlp", "ffn", "feed_forward", "block_sparse_moe", "moe", "fc1", "fc2"),
}
"""Kind -> what one part of a parameter's name begins or ends with."""


def bytes_by_kind(model: torch.nn.Module) -> dict[str, int]:
    """Bytes of the parameters of each of :data:`KINDS`; one that two layers share counts once."""
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        VocabParallelEmbedding,
    )

    from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer

    found = dict.fromkeys(KINDS, 0)
    seen: set[int] = set()
    owners = ((ExpertLayer, "experts"), (ParallelLMHead, "output projection"),
              (VocabParallelEmbedding, "embedding"))  # fmt: skip
    inside: dict[str, str] = {}
    for name, module in model.named_modules():
        for layer, kind in owners:
            if isinstance(module, layer):
                inside.setdefault(f"{name}.", kind)
                break
    for name, parameter in model.named_parameters():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        owner = next((kind for prefix, kind in inside.items() if name.startswith(prefix)), None)
        found[owner or _by_name(name)] += parameter.numel() * parameter.element_size()
    return found


def _by_name(name: str) -> str:
    parts = name.split(".")
    for kind, words in _WORDS.items():
        if any(part.startswith(words) or part.endswith(words) for part in parts):
            return kind
    return "rest"


def widest_layer(model: torch.nn.Module) -> int:
    """Elements that the layer of most work reads and writes for one token, on one card.

    A linear layer's are its inputs and outputs; those of ``k`` experts of width I over a hidden
    size of H are k (3 I + H).
    """
    from vllm.model_executor.layers.linear import LinearBase

    from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer

    widest = 0
    for module in model.modules():
        if isinstance(module, ExpertLayer):
            inner = module.intermediate_size_per_partition
            widest = max(widest, module.top_k * (3 * inner + module.hidden_size))
        elif isinstance(module, LinearBase):
            read = getattr(module, "input_size_per_partition", module.input_size)
            written = getattr(module, "output_size_per_partition", module.output_size)
            widest = max(widest, read + written)
    return widest
