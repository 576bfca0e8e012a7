# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in fp8 and mxfp4, written by a simple quantiser, and HF's model as converted."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from support.w8a8 import (
    QuantisedLinear,
    Scheme,
    copy_configuration,
    float_model,
    rows_in_int8,
)
from torch import Tensor

E4M3_LARGEST = 448.0
_E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def _blocks(weight: Tensor, block: tuple[int, int]) -> Tensor:
    """float32 scale of each block, so that its largest element is fp8's largest."""
    tall, wide = block
    rows, width = weight.shape
    padded = torch.nn.functional.pad(weight, (0, -width % wide, 0, -rows % tall))
    grid = padded.unflatten(1, (-1, wide)).unflatten(0, (-1, tall))
    return grid.abs().amax((1, 3)).clamp(min=1e-12) / E4M3_LARGEST


def _spread(scale: Tensor, weight: Tensor, block: tuple[int, int]) -> Tensor:
    tall, wide = block
    every = scale.repeat_interleave(tall, 0).repeat_interleave(wide, 1)
    return every[: weight.shape[0], : weight.shape[1]]


def write(source: Path, target: Path, kind: str, block: tuple[int, int] = (8, 8)) -> Path:
    """``source`` in fp8.

    Args:
        kind: ``block`` (DeepSeek's format), ``tensor`` (native, with static activation scales), or
            ``compressed-channel``, ``compressed-block`` (compressed-tensors).
    """
    model = float_model(source)
    names = Scheme().names(model)
    kept = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in names
    ]
    copy_configuration(source, target, _described(kind, block, kept))
    tensors = _in_fp8(model.state_dict(), names, kind, block)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def write_sparse(source: Path, target: Path, block: tuple[int, int] = (8, 8)) -> tuple[Path, Path]:
    """A DeepSeek-V3.2 in DeepSeek's format, and the same values in float32.

    As in the published checkpoints, the indexer's projections are in fp8, too, but its weights of
    heads are not.
    """
    weights = load_file(source / "model.safetensors")
    ends = ("_proj.weight", "_proj_with_mqa.weight", "wq_b.weight", "wk.weight")
    names = [
        key.removesuffix(".weight")
        for key in weights
        if key.endswith(ends) and not key.endswith("weights_proj.weight")
    ]
    folder, plain = target / "fp8", target / "plain"
    copy_configuration(source, folder, _described("block", block, []))
    tensors = _in_fp8(weights, names, "block", block)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name, value in decoded(folder, block).items():
        weights[f"{name}.weight"] = value.float()
    shutil.copytree(source, plain)
    save_file(weights, plain / "model.safetensors", metadata={"format": "pt"})
    return folder, plain


def _in_fp8(
    weights: Mapping[str, Tensor], names: Collection[str], kind: str, block: tuple[int, int]
) -> dict[str, Tensor]:
    """All tensors, those of the layers ``names`` in fp8 with their scales."""
    tensors: dict[str, Tensor] = {}
    scale_name = "weight_scale_inv" if kind == "block" else "weight_scale"
    for key, value in weights.items():
        module, _, part = key.rpartition(".")
        if module not in names or part != "weight":
            tensors[key] = value.clone()
            continue
        if kind.endswith("block"):
            scale = _blocks(value, block)
            every = _spread(scale, value, block)
        elif kind.endswith("channel"):
            scale = every = value.abs().amax(1, keepdim=True) / E4M3_LARGEST
        else:
            scale = (value.abs().amax() / E4M3_LARGEST).reshape(1)
            every = scale
            tensors[f"{module}.input_scale"] = torch.tensor([0.1])
        tensors[key] = (value / every).to(torch.float8_e4m3fn)
        tensors[f"{module}.{scale_name}"] = scale
    return tensors


def _described(kind: str, block: tuple[int, int], kept: list[str]) -> dict[str, object]:
    if kind == "block":
        return {
            "modules_to_not_convert": kept,
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "weight_block_size": list(block),
        }
    if kind == "tensor":
        return {
            "quant_method": "fp8",
            "activation_scheme": "static",
            "modules_to_not_convert": kept,
        }
    weights: dict[str, object] = {"num_bits": 8, "type": "float", "symmetric": True,
                                  "dynamic": False}  # fmt: skip
    activations: dict[str, object] = {"num_bits": 8, "type": "float", "symmetric": True,
                                      "dynamic": True}  # fmt: skip
    if kind == "compressed-block":
        weights |= {"strategy": "block", "block_structure": list(block)}
        activations |= {"strategy": "group", "group_size": block[1]}
    else:
        weights |= {"strategy": "channel"}
        activations |= {"strategy": "token"}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": group},
        "ignore": kept,
    }


def decoded(checkpoint: Path, block: tuple[int, int] = (8, 8)) -> dict[str, Tensor]:
    """Each quantised weight's values, float64, by module."""
    tensors = load_file(checkpoint / "model.safetensors")
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if value.dtype != torch.float8_e4m3fn:
            continue
        module = key.removesuffix(".weight")
        scale = tensors.get(f"{module}.weight_scale_inv", tensors.get(f"{module}.weight_scale"))
        assert scale is not None
        every = _spread(scale, value, block) if scale.dim() == 2 and scale.shape[1] > 1 else scale
        found[module] = value.double() * every.double()
    return found


def converted_model(
    source: Path, checkpoint: Path, block: tuple[int, int] = (8, 8), to: str = "int8"
) -> transformers.PreTrainedModel:
    """HF's model of ``source`` with the weights of an fp8 checkpoint, as converted to ``to``."""
    model = float_model(source)
    for name, weight in decoded(checkpoint, block).items():
        module = model.get_submodule(name)
        in_int8 = to == "int8" and not name.endswith("kv_b_proj")
        exact = rows_in_int8(weight) if in_int8 else weight
        module.forward = QuantisedLinear(exact, module.bias, quantise=in_int8)
    return model


def write_mxfp4(source: Path, target: Path) -> Path:
    """A gpt-oss model of ``source`` with its experts in mxfp4."""
    model = float_model(source)
    tensors: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key.endswith(("gate_up_proj", "down_proj")):
            blocks, exponents = _mxfp4(value.transpose(1, 2))
            tensors |= {f"{key}_blocks": blocks, f"{key}_scales": exponents}
        else:
            tensors[key] = value.clone()
    copy_configuration(source, target, {"quant_method": "mxfp4"})
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _mxfp4(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = weight.unflatten(-1, (-1, 32))
    exponent = (groups.abs().amax(-1).clamp(min=1e-20) / 6).log2().ceil()
    scaled = groups / exponent.exp2().unsqueeze(-1)
    nearest = (scaled.abs().unsqueeze(-1) - _E2M1).abs().argmin(-1)
    codes = (nearest + 8 * (scaled < 0)).to(torch.uint8)
    return codes[..., ::2] | codes[..., 1::2] << 4, (exponent + 127).to(torch.uint8)


def converted_gpt_oss(source: Path, checkpoint: Path) -> transformers.PreTrainedModel:
    """HF's gpt-oss with the experts of an mxfp4 checkpoint in int8, activations too."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    model = float_model(source)
    tensors = load_file(checkpoint / "model.safetensors")
    for name, module in model.named_modules():
        if not name.endswith("mlp.experts"):
            continue
        for matrix in ("gate_up_proj", "down_proj"):
            blocks = tensors[f"{name}.{matrix}_blocks"]
            exponents = tensors[f"{name}.{matrix}_scales"]
            weight = convert_moe_packed_tensors(blocks, exponents, dtype=torch.float32)
            exact = rows_in_int8(weight.transpose(1, 2))
            delattr(module, matrix)
            # HF multiplies by an expert's matrix with @, which these understand.
            setattr(module, matrix, [QuantisedLinear(each, None) for each in exact])
    return model
