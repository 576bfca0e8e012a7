# SPDX-License-Identifier: Apache-2.0
"""Checkpoints quantised to packed integers by rounding to nearest, and what they stand for.

The quantiser is as simple as can be and shares nothing with the code under test: codes are packed
one by one with numpy. Beside the quantised checkpoint it saves a plain one with the dequantised
weights, the judge of every comparison.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from support.w8a8 import copy_configuration, float_model
from torch import Tensor

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


@dataclass(frozen=True)
class Scheme:
    """How to quantise every linear layer but the output projection."""

    method: str
    """awq, gptq, gptq_v2 or compressed-tensors"""
    bits: int = 4
    group: int = 32
    """-1: one group"""
    symmetric: bool = False
    desc_act: bool = False
    skipped: tuple[str, ...] = ("lm_head",)
    """Parts of names of layers that stay as they are."""
    in_8_bits: tuple[str, ...] = ()
    """Parts of names of layers that are quantised to 8 bits; the configuration says nothing of
    them."""

    def configuration(self) -> dict[str, object]:
        """``quantization_config`` of ``config.json``, as public quantisers write it."""
        if self.method == "awq":
            return {
                "quant_method": "awq",
                "bits": self.bits,
                "group_size": self.group,
                "zero_point": True,
                "version": "gemm",
                "modules_to_not_convert": list(self.skipped),
            }
        if self.method.startswith("gptq"):
            return {
                "quant_method": "gptq",
                "bits": self.bits,
                "group_size": self.group,
                "desc_act": self.desc_act,
                "sym": self.symmetric,
                "lm_head": False,
                "checkpoint_format": self.method,
            }
        weights = {
            "num_bits": self.bits,
            "type": "int",
            "symmetric": self.symmetric,
            "strategy": "channel" if self.group == -1 else "group",
            "group_size": None if self.group == -1 else self.group,
            "dynamic": False,
            "actorder": "group" if self.desc_act else None,
            "observer": "minmax",
        }
        group = {"targets": ["Linear"], "weights": weights, "format": "pack-quantized"}
        return {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": list(self.skipped),
        }


def write(source: Path, folder: Path, scheme: Scheme) -> tuple[Path, Path]:
    """Quantise ``source``. Returns the folders of the quantised and of the dequantised model."""
    model = float_model(source)
    packed: dict[str, Tensor] = {}
    changed = set()
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and not any(s in name for s in scheme.skipped):
            own = replace(scheme, bits=8) if any(s in name for s in scheme.in_8_bits) else scheme
            tensors, layer.weight.data = quantise(name, layer.weight.data, own)
            packed |= {f"{name}.{key}": value for key, value in tensors.items()}
            changed.add(f"{name}.weight")
    plain, quantised = folder / "plain", folder / "quantised"
    model.save_pretrained(plain)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    kept = {k: v for k, v in model.state_dict().items() if k not in changed | tied}
    copy_configuration(source, quantised, scheme.configuration())
    save_file({**kept, **packed}, quantised / "model.safetensors", {"format": "pt"})
    return quantised, plain


def quantise(name: str, weight: Tensor, scheme: Scheme) -> tuple[dict[str, Tensor], Tensor]:
    """One weight ``[N, K]``: the tensors of the checkpoint, and the weight that they stand for."""
    outputs, inputs = weight.shape
    group = inputs if scheme.group == -1 else scheme.group
    top = (1 << scheme.bits) - 1
    g_idx = torch.arange(inputs) // group
    if scheme.desc_act:
        # Layers with the same inputs are quantised in the same order.
        seed = zlib.crc32(f"{name.rpartition('.')[0]} {inputs}".encode())
        g_idx = g_idx[torch.randperm(inputs, generator=torch.Generator().manual_seed(seed))]
    order = torch.argsort(g_idx, stable=True)
    grouped = weight[:, order].view(outputs, -1, group)
    if scheme.symmetric:
        scale = grouped.abs().amax(-1) / (top / 2)
        zero = torch.full_like(scale, (top + 1) // 2)
    else:
        low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
        scale = (high - low) / top
        # GPTQ's first format stores the zero less one.
        zero = (-low / scale.clamp(min=1e-8)).round().clamp(int(scheme.method == "gptq"), top)
    scale = scale.clamp(min=1e-4).half()  # [N, G]
    of_input, zero_of_input = scale.float()[:, g_idx], zero[:, g_idx]
    codes = (weight / of_input + zero_of_input).round().clamp(0, top)
    meant = (codes - zero_of_input) * of_input
    if scheme.method == "awq" or (scheme.bits == 4 and ".experts." in name):
        meant = meant.half().float()  # these are dequantised in float16
    codes, zero = codes.to(torch.int64), zero.to(torch.int64)
    if scheme.method == "awq":
        tensors = {
            "qweight": _pack(codes.T, 4, AWQ_ORDER),
            "qzeros": _pack(zero.T, 4, AWQ_ORDER),
            "scales": scale.T,
        }
    elif scheme.method.startswith("gptq"):
        stored = zero - int(scheme.method == "gptq")
        tensors = {
            "qweight": _pack(codes, scheme.bits).T,
            "qzeros": _pack(stored.T, scheme.bits),
            "scales": scale.T,
            "g_idx": g_idx.to(torch.int32),
        }
    else:
        tensors = {
            "weight_packed": _pack(codes, scheme.bits),
            "weight_scale": scale,
            "weight_shape": torch.tensor([outputs, inputs]),
        }
        if not scheme.symmetric:
            tensors["weight_zero_point"] = _pack(zero.T, scheme.bits).T
        if scheme.desc_act:
            tensors["weight_g_idx"] = g_idx.to(torch.int32)
    return {key: value.contiguous() for key, value in tensors.items()}, meant


def _pack(values: Tensor, bits: int, order: list[int] | None = None) -> Tensor:
    """``[R, C]`` to int32 ``[R, C bits / 32]``; field ``i`` of a word holds column ``order[i]``."""
    per_word = 32 // bits
    fields = values.numpy().reshape(values.shape[0], -1, per_word).astype(np.uint32)
    words = np.zeros(fields.shape[:2], dtype=np.uint32)
    for place, column in enumerate(order or range(per_word)):
        words |= fields[..., column] << np.uint32(bits * place)
    return torch.from_numpy(words.view(np.int32))
