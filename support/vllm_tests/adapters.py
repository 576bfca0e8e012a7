# SPDX-License-Identifier: Apache-2.0
"""A low-rank adapter of random matrices for a checkpoint, as PEFT would save it."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["RANK", "TARGETS", "write"]

RANK = 8
TARGETS = ("q_proj", "v_proj")


def write(checkpoint: Path, folder: Path) -> None:
    """Write into ``folder`` an adapter of each query and value layer of ``checkpoint``.

    Raises:
        ValueError: the checkpoint has no such layer.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    matrices = {}
    with safe_open(checkpoint / "model.safetensors", "pt") as weights:
        for name in weights.keys():  # noqa: SIM118, it is no dict
            layer = name.removesuffix(".weight")
            if not layer.endswith(TARGETS) or layer == name:
                continue
            outputs, inputs = weights.get_slice(name).get_shape()
            for part, shape in (("A", (RANK, inputs)), ("B", (outputs, RANK))):
                matrix = torch.randn(shape, generator=generator) / inputs**0.5
                matrices[f"base_model.model.{layer}.lora_{part}.weight"] = matrix
    if not matrices:
        raise ValueError(f"{checkpoint} has none of the layers {', '.join(TARGETS)}")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(matrices, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": list(TARGETS),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(described, indent=1))
