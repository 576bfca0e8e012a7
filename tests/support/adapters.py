# SPDX-License-Identifier: Apache-2.0
"""Random low-rank adapters in PEFT's format, and the same ones merged into an HF model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
VOCABULARY = ("embed_tokens", "lm_head")


@dataclass(frozen=True)
class Adapter:
    """``W + scaling B A`` on every module whose name ends with one of ``targets``.

    ``matrices`` is module -> (A ``[rank, in]``, B ``[out, rank]``), float32.
    """

    folder: Path
    scaling: float
    matrices: Mapping[str, tuple[Tensor, Tensor]]

    @torch.no_grad()
    def merge(self, model: torch.nn.Module) -> None:
        """Change the weights of an HF model in place."""
        for name, (a, b) in self.matrices.items():
            delta = self.scaling * (b @ a)
            module = model.get_submodule(name)
            # An embedding's weight has a row for each input, a linear layer's for each output.
            module.weight += delta.T if isinstance(module, torch.nn.Embedding) else delta


def write(
    model: transformers.PreTrainedModel,
    folder: Path,
    targets: Sequence[str],
    rank: int,
    alpha: int,
    *,
    use_rslora: bool = False,
    part: str = "",
    seed: int = 0,
) -> Adapter:
    """Save an adapter of random matrices, as PEFT would after training; both of them not zero.

    Args:
        part: only of modules with this in their name.
    """
    generator = torch.Generator().manual_seed(seed)
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    saved: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] not in targets or part not in name:
            continue
        embedding = isinstance(module, torch.nn.Embedding)
        outputs, inputs = module.weight.T.shape if embedding else module.weight.shape
        a = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
        b = torch.randn(outputs, rank, generator=generator) * 0.2
        matrices[name] = a, b
        prefix = f"base_model.model.{name}"
        if embedding:
            saved |= {f"{prefix}.lora_embedding_A": a, f"{prefix}.lora_embedding_B": b}
        else:
            saved |= {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
    folder.mkdir(parents=True)
    save_file(saved, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": use_rslora,
        "target_modules": list(targets),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(described))
    return Adapter(folder, alpha / (math.sqrt(rank) if use_rslora else rank), matrices)
