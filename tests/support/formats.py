# SPDX-License-Identifier: Apache-2.0
"""Quantised checkpoints as public tools write them, beyond the plain ones; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from support import quantised, w8a8
from support.quantised import Scheme

__all__ = ["PACKED", "REFUSED", "Packed", "W8A8", "change_quantisation", "layers", "write"]

HEAD = ("lm_head",)
AWQ, GPTQ = Scheme("awq", group=16), Scheme("gptq", group=16)
W4A16 = Scheme("compressed-tensors", group=16, symmetric=True)


def without(scheme: Scheme, *names: str) -> Scheme:
    """``scheme`` that leaves out layers whose names have one of ``names``."""
    return Scheme(**{**vars(scheme), "skipped": names})


@dataclass(frozen=True)
class Packed:
    """A checkpoint of packed weights: how they are packed, and what config.json says besides."""

    scheme: Scheme
    says: Mapping[str, Any] = field(default_factory=dict)
    """Entries of ``quantization_config``; None takes one out."""
    file: str | None = None
    """Where the configuration is, if not in config.json."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the engine."""
    model: str = "llama-even"


def group(*targets: str, bits: int = 4) -> dict[str, Any]:
    """``config_groups`` of compressed-tensors, one for ``targets``."""
    described: Any = Scheme(**{**vars(W4A16), "bits": bits}).configuration()
    return {**described["config_groups"]["group_0"], "targets": list(targets)}


ROUND = {"quant_method": "auto-round", "data_type": "int", "sym": True}

PACKED: dict[str, Packed] = {
    "awq-head": Packed(without(AWQ), {"modules_to_not_convert": None}),
    "gptq-head": Packed(without(GPTQ), {"lm_head": True}),
    "gptq-head-unsaid": Packed(without(GPTQ)),
    "w4a16-head": Packed(without(W4A16)),
    "w4a16-head-by-name": Packed(
        without(W4A16), {"config_groups": {"a": group("re:.*_proj"), "b": group("lm_head")}}
    ),
    "expressions": Packed(
        without(W4A16, *HEAD, "layers.1.", "mlp.down"),
        {
            "config_groups": {"a": group("re:.*self_attn\\..*"), "b": group("re:.*mlp.*")},
            "ignore": ["re:.*lm_head", "re:model\\.layers\\.1\\..*", "re:.*down_proj$"],
        },
    ),
    "expressions-of-some-layers": Packed(
        without(W4A16, *HEAD, "mlp"), {"config_groups": {"a": group("re:.*self_attn.*")}}
    ),
    "expression-of-v": Packed(
        without(W4A16, *HEAD, "mlp", "q_proj", "k_proj", "o_proj"),
        {"config_groups": {"a": group("re:.*v_proj")}},
    ),
    "w4a16-two-kinds-in-one": Packed(
        Scheme(**{**vars(W4A16), "in_8_bits": ("v_proj",)}),
        {
            "config_groups": {
                "a": group("re:.*[qko]_proj", "re:.*mlp.*"),
                "b": group("re:.*v_proj", bits=8),
            }
        },
    ),
    "w4a16-without-k": Packed(
        without(W4A16, *HEAD, "k_proj"), {"ignore": ["lm_head", "re:.*k_proj"]}
    ),
    "awq-without-q": Packed(without(AWQ, *HEAD, "layers.1.self_attn.q_proj")),
    "awq-without-up": Packed(without(AWQ, *HEAD, "up_proj"), {"modules_to_not_convert": None}),
    "gptq-alone": Packed(GPTQ, {"quant_method": None}, "quantize_config.json"),
    "awq-alone": Packed(
        AWQ,
        {"quant_method": None, "bits": None, "group_size": None, "w_bit": 4, "q_group_size": 16},
        "quant_config.json",
    ),
    "gptq-dynamic-without-q": Packed(
        without(GPTQ, *HEAD, "q_proj"), {"dynamic": {"-:.*q_proj.*": {}}}
    ),
    "gptq-dynamic-without-v": Packed(
        without(GPTQ, *HEAD, "v_proj"), {"dynamic": {"-:.*\\.v_proj$": {}}}
    ),
    "gptq-dynamic-without-qkv": Packed(
        without(GPTQ, *HEAD, "q_proj", "k_proj", "v_proj"),
        {"dynamic": {"-:.*\\.(q|k|v)_proj$": {}}},
    ),
    "gptq-dynamic-8-bits-in-q": Packed(
        Scheme(**{**vars(GPTQ), "in_8_bits": ("q_proj",)}),
        {"dynamic": {"+:.*\\.q_proj$": {"bits": 8}}},
    ),
    "gptq-dynamic-8-bits-in-qkv": Packed(
        Scheme(**{**vars(GPTQ), "in_8_bits": ("q_proj", "k_proj", "v_proj")}),
        {"dynamic": {"+:.*\\.(q|k|v)_proj$": {"bits": 8}}},
    ),
    "auto-round-gptq": Packed(GPTQ, {**ROUND, "packing_format": "auto_round:auto_gptq"}),
    "auto-round-awq": Packed(AWQ, {**ROUND, "packing_format": "auto_round:auto_awq"}),
    "auto-round-layers": Packed(
        Scheme(**{**vars(GPTQ), "in_8_bits": ("v_proj",), "skipped": (*HEAD, "layers.0.mlp.")}),
        {
            **ROUND,
            "packing_format": "auto_round:auto_gptq",
            "extra_config": {
                "v_proj$": {"bits": 8},
                **{f"model.layers.0.mlp.{n}_proj": {"bits": 16} for n in ("gate", "up", "down")},
            },
        },
    ),
    "awq-marlin-asked": Packed(AWQ, options={"quantization": "awq_marlin"}),
    "awq-marlin-stored": Packed(AWQ, {"quant_method": "awq_marlin"}),
    "gptq-marlin-asked": Packed(GPTQ, options={"quantization": "gptq_marlin"}),
    "gptq-marlin-stored": Packed(GPTQ, {"quant_method": "gptq_marlin"}),
}
"""Formats of packed weights that run."""

W8A8: dict[str, w8a8.Scheme] = {
    "head": w8a8.Scheme(keep=()),
    "without-q": w8a8.Scheme(keep=(*HEAD, "q_proj")),
    "static-without-up": w8a8.Scheme(static=True, keep=(*HEAD, "up_proj")),
    "per-tensor-without-k": w8a8.Scheme(weights="tensor", static=True, keep=(*HEAD, "k_proj")),
}
"""Checkpoints of int8 that run."""


def write(source: Path, folder: Path, made: Packed) -> tuple[Path, Path]:
    """As :func:`quantised.write`, with the configuration where and as it is said."""
    packed, plain = quantised.write(source, folder, made.scheme)
    change_quantisation(packed, **made.says)
    if made.file:
        content = json.loads((packed / "config.json").read_text())
        (packed / made.file).write_text(json.dumps(content.pop("quantization_config")))
        (packed / "config.json").write_text(json.dumps(content))
    return packed, plain


def change_quantisation(folder: Path, **entries: Any) -> None:
    """Change ``quantization_config`` of config.json; None takes an entry out."""
    content = json.loads((folder / "config.json").read_text())
    found = {**content.get("quantization_config", {}), **entries}
    content["quantization_config"] = {k: v for k, v in found.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(content))


def layers(model: torch.nn.Module) -> dict[str, tuple[torch.nn.Module, list[str]]]:
    """The linear layers and the output projection of a model, each with the names of the layers of
    the checkpoint that it is made of."""
    parts = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
    found = {}
    for name, layer in model.named_modules():
        stem, _, kind = name.rpartition(".")
        if kind.endswith("_proj") or kind in ("lm_head", "c_attn", "c_fc"):
            found[name] = layer, [f"{stem}.{part}".lstrip(".") for part in parts.get(kind, [kind])]
    return found


def scaled(folder: Path) -> None:
    """An activation function's scales, as AWQ writes them for some models."""
    file = folder / "model.safetensors"
    save_file(
        {**load_file(file), "model.layers.0.mlp.act.scales": torch.ones(160)},
        file, {"format": "pt"},
    )  # fmt: skip


def said(**entries: Any) -> Callable[[Path], None]:
    return lambda folder: change_quantisation(folder, **entries)


REFUSED: dict[str, tuple[Scheme, Callable[[Path], None], str]] = {
    "awq-scaled-activation": (AWQ, scaled, "mlp.act.scales: AWQ moved .* with GPTQ"),
    "gptq-rule-of-a-packed-layer": (
        GPTQ, said(dynamic={"-:.*q_proj": {}}), "q_proj is packed .*dynamic .*Take that rule out"
    ),
    "auto-round-floats": (
        GPTQ, said(**{**ROUND, "data_type": "mx_fp"}), "data_type='mx_fp'.*Export W4A16"
    ),
    "auto-round-activations": (GPTQ, said(**ROUND, act_bits=8), "act_bits=8.*Export W4A16"),
    "auto-round-packing": (
        GPTQ, said(**ROUND, packing_format="auto_round:llm"), "'auto_round:llm'.*--format auto_gptq"
    ),
    "auto-round-awq-of-two-kinds": (
        AWQ,
        said(**ROUND, packing_format="auto_round:auto_awq", extra_config={"a.b": {"bits": 8}}),
        "a.b: auto-round with .*auto_gptq",
    ),
    **{
        method: (AWQ, said(quant_method=method, quant_algo="FP8"), f"quantization='{method}' ")
        for method in ("torchao", "quark", "bitsandbytes", "modelopt", "gguf", "experts_int8")
    },
}  # fmt: skip
"""What is refused as the configuration is made: packing, change, and words of the sentence."""
