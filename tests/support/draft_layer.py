# SPDX-License-Identifier: Apache-2.0
"""A multi-token-prediction layer for tiny checkpoints, which guesses well.

DeepSeek-V3's layer ``N`` (of ``N`` ordinary ones) predicts the token after next: it reads
``W [enorm(embedding of the next token), hnorm(the model's hidden state)]``. Random weights would
never guess right, so this layer is the model's first one, read with ``W = [1, noise]``, and the
model's other layers are made weak. Source: DeepSeek-V3, arXiv:2412.19437, section 2.2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEAK = 0.1


Weights = dict[str, torch.Tensor]


def add(folder: Path, *, noise: float = 0.02, seed: int = 0) -> Path:
    """Add the layer to a DeepSeek checkpoint whose first layer is a mixture of experts."""
    described, weights = _opened(folder)
    layers = described["num_hidden_layers"]
    _weaken(weights, [n for n in range(layers) if n != 0])
    added = f"model.layers.{layers}."
    weights |= _copied(weights, "model.layers.0.", added)
    weights |= {
        added + "embed_tokens.weight": weights["model.embed_tokens.weight"].clone(),
        added + "enorm.weight": torch.ones(described["hidden_size"]),
        added + "hnorm.weight": torch.ones(described["hidden_size"]),
        added + "eh_proj.weight": _reading(described["hidden_size"], noise, seed),
        added + "shared_head.norm.weight": weights["model.norm.weight"].clone(),
        added + "shared_head.head.weight": weights["lm_head.weight"].clone(),
    }
    return _saved(folder, described, weights)


def add_to_qwen3_next(folder: Path, *, noise: float = 0.02, seed: int = 0) -> Path:
    """The same for a Qwen3-Next, of whose layers the first of full attention is copied.

    Its norms multiply by ``1 + w``.
    """
    described, weights = _opened(folder)
    kinds = described["layer_types"]
    strong = kinds.index("full_attention")
    _weaken(weights, [n for n in range(len(kinds)) if n != strong])
    hidden = described["hidden_size"]
    weights |= _copied(weights, f"model.layers.{strong}.", "mtp.layers.0.")
    weights |= {
        "mtp.pre_fc_norm_embedding.weight": torch.zeros(hidden),
        "mtp.pre_fc_norm_hidden.weight": torch.zeros(hidden),
        "mtp.fc.weight": _reading(hidden, noise, seed),
        "mtp.norm.weight": weights["model.norm.weight"].clone(),
    }
    return _saved(folder, described, weights)


def _opened(folder: Path) -> tuple[dict[str, Any], Weights]:
    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    # Rows of root mean square 1 pass the layer's norm unchanged.
    embedding.div_(embedding.square().mean(1, keepdim=True).sqrt())
    return json.loads((folder / "config.json").read_text()), weights


def _weaken(weights: Weights, layers: Sequence[int]) -> None:
    for name in weights:
        if name.startswith(tuple(f"model.layers.{n}." for n in layers)) and any(
            last in name for last in ("o_proj", "out_proj", "down_proj")
        ):
            weights[name] = weights[name] * WEAK


def _copied(weights: Weights, source: str, target: str) -> Weights:
    return {
        target + name.removeprefix(source): value.clone()
        for name, value in weights.items()
        if name.startswith(source)
    }


def _reading(hidden: int, noise: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.cat(
        [torch.eye(hidden), noise * torch.randn(hidden, hidden, generator=generator)], 1
    )


def _saved(folder: Path, described: dict[str, Any], weights: Weights) -> Path:
    described["num_nextn_predict_layers"] = 1
    (folder / "config.json").write_text(json.dumps(described))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
