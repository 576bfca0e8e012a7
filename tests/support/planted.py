# SPDX-License-Identifier: Apache-2.0
"""Models of vLLM with one fault each, as a class that somebody adapts may have it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3Attention, Qwen3ForCausalLM
from vllm.model_executor.models.qwen3_moe import Qwen3MoeForCausalLM

__all__ = ["FAULTS", "Fault"]

Weights = Iterable[tuple[str, torch.Tensor]]
Change = Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]


class Fault(NamedTuple):
    """A checkpoint (``support.checkpoints``, or ``w8a8``), the class that runs it, and what is
    to be found: name in the checkpoint, kind of cause, and a word of its text."""

    checkpoint: str
    model: type[nn.Module]
    found: str
    kind: str
    word: str


def _loading(base: type[Any], change: Change) -> type[Any]:
    """``base``, which is given other weights than the checkpoint's."""

    class Faulty(base):  # type: ignore[misc]
        def load_weights(self, weights: Weights) -> set[str]:
            return super().load_weights(change(*each) for each in weights)

    return Faulty


def _swapped(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    return re.sub("gate_proj|up_proj", lambda found: other[found[0]], name), tensor


def _scaled(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    return name, tensor * 127 if name.endswith("layers.1.mlp.down_proj.weight_scale") else tensor


def _shifted(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Two heads of keys and values, each in the other's place."""
    part = ".k_proj." in name or ".v_proj." in name
    return name, tensor.roll(tensor.shape[0] // 2, 0) if part else tensor


def _next_expert(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    other = re.sub(r"experts\.(\d+)", lambda n: f"experts.{(int(n[1]) + 1) % 16}", name)
    return other, tensor


class _Interleaved(Qwen3ForCausalLM):
    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in self.model.layers:
            # vLLM keeps one rotary layer for all that ask for the same.
            layer.self_attn.rotary_emb = copy.deepcopy(layer.self_attn.rotary_emb)
            layer.self_attn.rotary_emb.is_neox_style = False


class _WithoutNorms(Qwen3Attention):
    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        qkv, _ = self.qkv_proj(hidden_states)
        query, key, value = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        query, key = self.rotary_emb(positions, query, key)
        return self.o_proj(self.attn(query, key, value))[0]


class _NormsLeftOut(Qwen3ForCausalLM):
    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in self.model.layers:
            layer.self_attn.__class__ = _WithoutNorms


class _WithoutBias(Qwen2ForCausalLM):
    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in self.model.layers:
            layer.self_attn.qkv_proj.register_parameter("bias", None)


class _Untied(Qwen2ForCausalLM):
    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.lm_head = ParallelLMHead(self.config.vocab_size, self.config.hidden_size)

    def load_weights(self, weights: Weights) -> set[str]:
        nn.init.normal_(self.lm_head.weight, std=0.1)
        return super().load_weights(weights) | {"lm_head.weight"}


_LAYER = "model.layers.0."
FAULTS = {
    "gate and up swapped": Fault(
        "qwen3", _loading(Qwen3ForCausalLM, _swapped), f"{_LAYER}mlp.gate_proj", "weights",
        "it is model.layers.0.mlp.up_proj's",
    ),
    "interleaved rotation": Fault(
        "qwen3", _Interleaved, f"{_LAYER}self_attn.rotary_emb", "formula",
        "is_neox_style=False, and True gives",
    ),
    "no head norms": Fault(
        "qwen3", _NormsLeftOut, f"{_LAYER}self_attn.q_norm", "not called", "q_norm and k_norm"
    ),
    "scale off by 127": Fault(
        "w8a8", _loading(LlamaForCausalLM, _scaled), "model.layers.1.mlp.down_proj", "weights",
        "it is 127 times what it should be",
    ),
    "heads of keys shifted": Fault(
        "qwen2", _loading(Qwen2ForCausalLM, _shifted), f"{_LAYER}self_attn.k_proj", "weights",
        "each head 1 from its place, of 2",
    ),
    "experts in another order": Fault(
        "qwen3-moe-even", _loading(Qwen3MoeForCausalLM, _next_expert), "model.layers.1.mlp",
        "weights", "expert 0 holds those of expert 15",
    ),
    "no bias": Fault(
        "qwen2", _WithoutBias, f"{_LAYER}self_attn.q_proj", "weights", "has no bias"
    ),
    "head not tied": Fault("qwen2-tied", _Untied, "lm_head", "weights", "is not tied"),
}  # fmt: skip
