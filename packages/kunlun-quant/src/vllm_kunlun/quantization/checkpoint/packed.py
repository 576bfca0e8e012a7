# SPDX-License-Identifier: Apache-2.0
"""Packed checkpoints judged by the headers of their files, before anything is loaded.

vLLM's loaders leave a missing tensor as it was allocated and answer a wrong shape with a bare
assertion; here each becomes one error that names the tensor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vllm.model_executor.layers.quantization.utils.gptq_utils import get_dynamic_override
from vllm.transformers_utils.config import get_safetensors_params_metadata

from vllm_kunlun.platforms.checks.checkpoint import check_files
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

__all__ = ["check_awq", "check_compressed_tensors", "check_gptq", "quantised_kinds", "shapes_of"]

Shapes = dict[str, tuple[int, ...]]


def check_awq(shapes: Shapes, group_size: int) -> None:
    """Every ``qweight [K, N / 8]`` with ``qzeros [K / g, N / 8]`` and ``scales [K / g, N]``.

    Raises:
        CheckpointError: a tensor is missing or of another shape, or nothing is packed.
        UnsupportedError: AWQ scaled activation functions.
    """
    if scaled := _modules(shapes, "act.scales"):
        raise UnsupportedError(
            f"{scaled[0]}.act.scales: AWQ moved scales into this model's activation functions, "
            "which vLLM no longer multiplies by. Quantise the model with GPTQ, or to int8 (W8A8)."
        )
    for name in _packed(shapes, "awq"):
        inputs, words = shapes[f"{name}.qweight"]
        groups = _groups(name, inputs, group_size)
        _require(shapes, f"{name}.scales", (groups, 8 * words), group_size)
        _require(shapes, f"{name}.qzeros", (groups, words), group_size)


def check_gptq(shapes: Shapes, config: Any) -> None:
    """Every ``qweight [K b / 32, N]`` with ``qzeros [K / g, N b / 32]`` and ``scales [K / g, N]``.

    Args:
        config: vLLM's configuration of GPTQ.

    Raises: as :func:`check_awq`.
    """
    for name in _packed(shapes, "gptq"):
        if get_dynamic_override(config, name) is False:
            raise CheckpointError(
                f"{name} is packed in the checkpoint, and quantization_config.dynamic says that it "
                "was left out. Take that rule out of config.json, or fetch the checkpoint again."
            )
        bits = get_dynamic_override(config, name, "bits", config.weight_bits)
        group_size = get_dynamic_override(config, name, "group_size", config.group_size)
        rows, outputs = shapes[f"{name}.qweight"]
        inputs = rows * 32 // bits
        groups = _groups(name, inputs, group_size)
        _require(shapes, f"{name}.scales", (groups, outputs), group_size)
        _require(shapes, f"{name}.qzeros", (groups, outputs * bits // 32), group_size)
        if config.desc_act and group_size != -1:
            _require(shapes, f"{name}.g_idx", (inputs,), group_size)


def check_compressed_tensors(shapes: Shapes, schemes: dict[str, Any]) -> None:
    """Every ``weight_packed [N, K b / 32]`` with ``weight_scale [N, K / g]``.

    ``schemes`` is vLLM's ``target_scheme_map``; only a configuration with one kind of packed
    weights is judged.

    Raises: as :func:`check_awq`.
    """
    packed = list(_modules(shapes, "weight_packed"))
    weights = {
        (args.num_bits, args.group_size, args.symmetric)
        for scheme in schemes.values()
        if (args := scheme.get("weights")) is not None
    }
    if not packed or len(weights) != 1:
        return
    bits, group_size, symmetric = weights.pop()
    for name in packed:
        outputs, words = shapes[f"{name}.weight_packed"]
        groups = _groups(name, words * 32 // bits, group_size or -1)
        _require(shapes, f"{name}.weight_scale", (outputs, groups), group_size)
        if not symmetric:
            zero_point = (outputs * bits // 32, groups)
            _require(shapes, f"{name}.weight_zero_point", zero_point, group_size)


def quantised_kinds(shapes: Shapes) -> frozenset[str]:
    """Last parts of the names of the quantised layers, such as ``q_proj`` or ``lm_head``."""
    return frozenset(
        name.rpartition(".")[2]
        for suffix in ("qweight", "weight_packed", "weight_scale")
        for name in _modules(shapes, suffix)
    )


def shapes_of(model: str, revision: str | None) -> Shapes:
    """Name of each tensor of the checkpoint -> its shape, by the headers.

    Raises: UnsupportedError: a file is missing or damaged.
    """
    if Path(model).is_dir():
        check_files(Path(model))  # a lost or cut file is the cause of the tensors that are missing
    found = get_safetensors_params_metadata(model, revision=revision)
    return {name: tuple(info["shape"]) for name, info in found.items() if "shape" in info}


def _modules(shapes: Shapes, suffix: str) -> list[str]:
    return sorted(name[: -len(suffix) - 1] for name in shapes if name.endswith(f".{suffix}"))


def _packed(shapes: Shapes, method: str) -> list[str]:
    """The layers with a ``qweight``; of none, the names say that they are not quantised."""
    found = _modules(shapes, "qweight")
    if shapes and not found:
        raise CheckpointError(
            f"config.json says quantization_config.quant_method={method!r}, and none of the "
            f"{len(shapes)} tensors of the checkpoint is a qweight. If its weights are floats, "
            "take quantization_config out of config.json; else fetch the checkpoint again."
        )
    return found


def _groups(name: str, inputs: int, group_size: int) -> int:
    if group_size == -1:
        return 1
    if group_size <= 0 or inputs % group_size:
        raise CheckpointError(
            f"{name}: {inputs} inputs do not divide into groups of {group_size}. The group size in "
            "the configuration is not the one that this checkpoint was quantised with."
        )
    return inputs // group_size


def _require(shapes: Shapes, name: str, expected: tuple[int, ...], group_size: int | None) -> None:
    if name not in shapes:
        raise CheckpointError(
            f"{name} is missing: the checkpoint is incomplete, or its configuration names another "
            "quantisation method than the one it was made with."
        )
    if shapes[name] != expected:
        raise CheckpointError(
            f"{name} is of shape {list(shapes[name])}; {list(expected)} is expected for groups of "
            f"{group_size}. Bits or group size of the configuration are not the checkpoint's."
        )
