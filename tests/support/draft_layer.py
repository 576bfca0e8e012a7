# SPDX-License-Identifier: Apache-2.0
"""A multi-token-prediction layer for tiny DeepSeek checkpoints, which guesses well.

DeepSeek-V3's layer ``N`` (of ``N`` ordinary ones) predicts the token after next: it reads
``W [enorm(embedding of the next token), hnorm(the model's hidden state)]``. Random weights would
never guess right, so this layer is the model's first one, read with ``W = [1, noise]``, and the
model's other layers are made weak. Source: DeepSeek-V3, arXiv:2412.19437, section 2.2.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEAK = 0.1


def add(folder: Path, *, noise: float = 0.02, seed: int = 0) -> Path:
    """Add the layer to a DeepSeek checkpoint whose first layer is a mixture of experts."""
    described = json.loads((folder / "config.json").read_text())
    layers, hidden = described["num_hidden_layers"], described["hidden_size"]
    described["num_nextn_predict_layers"] = 1
    (folder / "config.json").write_text(json.dumps(described))
    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    # Rows of root mean square 1 pass the layer's norm unchanged.
    embedding.div_(embedding.square().mean(1, keepdim=True).sqrt())
    for layer in range(1, layers):
        for name in weights:
            if name.startswith(f"model.layers.{layer}.") and (
                "o_proj" in name or "down_proj" in name
            ):
                weights[name] = weights[name] * WEAK
    first, added = "model.layers.0.", f"model.layers.{layers}."
    weights |= {
        added + name.removeprefix(first): value.clone()
        for name, value in weights.items()
        if name.startswith(first)
    }
    generator = torch.Generator().manual_seed(seed)
    weights |= {
        added + "embed_tokens.weight": embedding.clone(),
        added + "enorm.weight": torch.ones(hidden),
        added + "hnorm.weight": torch.ones(hidden),
        added + "eh_proj.weight": torch.cat(
            [torch.eye(hidden), noise * torch.randn(hidden, hidden, generator=generator)], 1
        ),
        added + "shared_head.norm.weight": weights["model.norm.weight"].clone(),
        added + "shared_head.head.weight": weights["lm_head.weight"].clone(),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
