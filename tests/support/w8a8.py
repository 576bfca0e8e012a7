# SPDX-License-Identifier: Apache-2.0
"""A simple W8A8 quantiser, writing compressed-tensors checkpoints; and the same in HF's model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Scheme:
    """How weights and activations are quantised; weights always symmetric."""

    weights: str = "channel"
    """One scale per ``channel`` or per ``tensor``."""
    static: bool = False
    """Activations: one scale per tensor, calibrated; else one per token."""
    symmetric: bool = True
    """Activations without a zero point."""
    keep: tuple[str, ...] = ("lm_head", "mlp.gate", "shared_expert_gate")
    """Ends of the names of layers that stay as they are."""

    def configuration(self) -> dict[str, object]:
        """``quantization_config`` of config.json."""
        activations = {
            "num_bits": 8,
            "type": "int",
            "symmetric": self.symmetric,
            "dynamic": not self.static,
            "strategy": "tensor" if self.static else "token",
        }
        weights = {
            "num_bits": 8,
            "type": "int",
            "symmetric": True,
            "dynamic": False,
            "strategy": self.weights,
        }
        group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
        return {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": [f"re:.*{name}$" for name in self.keep],
        }

    def names(self, model: torch.nn.Module) -> list[str]:
        """The layers of ``model`` to quantise."""
        return [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and not name.endswith(self.keep)
        ]


@torch.inference_mode()
def calibrate(
    model: torch.nn.Module, names: Sequence[str], prompts: Sequence[Sequence[int]]
) -> dict[str, tuple[float, float]]:
    """Smallest and largest input of each of the layers ``names`` over ``prompts``."""
    ranges: dict[str, tuple[float, float]] = {}

    def observe(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].numel() == 0:
                return
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (
                min(low, inputs[0].min().item()),
                max(high, inputs[0].max().item()),
            )

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(observe(name)) for name in names]
    for prompt in prompts:
        model(torch.tensor([list(prompt)]))
    for handle in handles:
        handle.remove()
    return ranges


def quantise(
    source: Path,
    target: Path,
    scheme: Scheme,
    prompts: Sequence[Sequence[int]] = (),
    change: Callable[[dict[str, Tensor]], None] | None = None,
) -> Path:
    """Write ``source`` in W8A8 to ``target``. ``prompts`` calibrate static activations.

    ``change`` is given the tensors before they are written.
    """
    model = float_model(source)
    names = scheme.names(model)
    ranges = calibrate(model, names, prompts) if scheme.static else {}
    tensors: dict[str, Tensor] = {}
    tied = model.config.tie_word_embeddings
    for key, value in model.state_dict().items():
        module, _, kind = key.rpartition(".")
        if tied and module == "lm_head":
            continue
        if module not in names or kind != "weight":
            tensors[key] = value.clone()
            continue
        largest = value.abs().amax(1, keepdim=True) if scheme.weights == "channel" else (
            value.abs().amax().reshape(1)
        )  # fmt: skip
        scale = (largest / 127).clamp(min=1e-12)
        tensors[key] = (value / scale).round().clamp(-128, 127).to(torch.int8)
        tensors[f"{module}.weight_scale"] = scale
        if scheme.static:
            low, high = ranges.get(module, (-1.0, 1.0))
            if scheme.symmetric:
                step = max(-low, high) / 127
            else:
                step = (high - low) / 255
                zero_point = round(-128 - low / step)
                tensors[f"{module}.input_zero_point"] = torch.tensor([zero_point]).to(torch.int8)
            tensors[f"{module}.input_scale"] = torch.tensor([step], dtype=torch.float32)
    if change is not None:
        change(tensors)
    copy_configuration(source, target, scheme.configuration())
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@dataclass
class QuantisedLinear:
    """``forward`` of a linear layer: activations quantised by the formula.

    Computes in the dtype of ``weight``. ``parts`` cuts the input as tensor parallelism does: each
    part is quantised alone.
    """

    weight: Tensor
    bias: Tensor | None
    input_scale: Tensor | None = None
    zero_point: Tensor | None = None
    symmetric: bool = True
    parts: int = 1
    quantise: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        wide = x.to(self.weight.dtype)
        if self.quantise:
            wide = torch.cat([self._round(part) for part in wide.chunk(self.parts, -1)], -1)
        result = wide @ self.weight.T
        if self.bias is not None:
            result += self.bias
        return result.to(x.dtype)

    def __rmatmul__(self, x: Tensor) -> Tensor:
        return self(x)

    def _round(self, x: Tensor) -> Tensor:
        if self.input_scale is not None:
            step = self.input_scale.to(x.dtype)
            zero_point = 0.0 if self.zero_point is None else self.zero_point.to(x.dtype)
            return ((x / step).round() + zero_point).clamp(-128, 127).sub(zero_point) * step
        if self.symmetric:
            step = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
            return (x / step).round() * step
        low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        step = ((high - low) / 255).clamp(min=1e-30)
        zero_point = (-128 - low / step).round()
        return ((x / step).round() + zero_point).clamp(-128, 127).sub(zero_point) * step


def reference_model(
    source: Path,
    checkpoint: Path,
    scheme: Scheme,
    *,
    quantise_activations: bool = True,
    ranks: int = 1,
    whole: Callable[[str], bool] = lambda name: False,
    dtype: torch.dtype = torch.float64,
) -> transformers.PreTrainedModel:
    """HF's model of ``source`` with the weights of the quantised ``checkpoint``.

    Args:
        scheme: by which the checkpoint was made.
        quantise_activations: False gives the weights' rounding alone.
        ranks: tensor-parallel ranks, which quantise their part of a row-parallel layer's input.
        whole: layers that no rank cuts (experts under expert parallelism).
        dtype: in which the quantised layers compute.
    """
    model = float_model(source)
    tensors: Mapping[str, Tensor] = load_file(checkpoint / "model.safetensors")
    for name in scheme.names(model):
        module = model.get_submodule(name)
        weight = tensors[f"{name}.weight"].double() * tensors[f"{name}.weight_scale"].double()
        row_parallel = name.endswith(("o_proj", "down_proj")) and not whole(name)
        module.forward = QuantisedLinear(
            weight.to(dtype),
            module.bias,
            tensors.get(f"{name}.input_scale"),
            tensors.get(f"{name}.input_zero_point"),
            scheme.symmetric,
            ranks if row_parallel else 1,
            quantise_activations,
        )
    return model


def float_model(source: Path) -> transformers.PreTrainedModel:
    """HF's model of ``source`` in float32, of text or of text and pictures."""
    config = transformers.AutoConfig.from_pretrained(source)
    sees = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    return kind.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()


def rows_in_int8(weight: Tensor) -> Tensor:
    """``weight`` rounded to 127 steps of each row's absolute maximum, in float64.

    What is rounded is the float32 product ``value (127 / maximum)``: half the maximum, which a
    small float format holds often, lies between two steps, and float64 would take the other one.
    """
    largest = weight.float().abs().amax(-1, keepdim=True).clamp(min=1e-30)
    return (weight.float() * (127.0 / largest)).round().double() * largest.double() / 127


def copy_configuration(source: Path, target: Path, quantisation: Mapping[str, object]) -> None:
    """Configuration and tokenizer of ``source``, with ``quantization_config`` added."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix in (".json", ".txt", ".model", ".jinja") and "index" not in file.name:
            shutil.copy(file, target)
    described = json.loads((source / "config.json").read_text())
    described["quantization_config"] = quantisation
    (target / "config.json").write_text(json.dumps(described))
