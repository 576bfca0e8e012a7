# SPDX-License-Identifier: Apache-2.0
"""Loading quantised tensors so that a bad checkpoint is one clear error, and a reload is right.

vLLM checks that every tensor was loaded only for unquantised models, and reloads weights without
processing them again. So a parameter starts with a value that no checkpoint holds, its loader says
which tensor does not fit, and what is derived from parameters follows each load.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from vllm.config import get_current_vllm_config
from vllm.model_executor.parameter import PerTensorScaleParameter
from vllm.model_executor.utils import set_weight_attrs

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.loading import forms

__all__ = [
    "add_parameter",
    "check_numbers",
    "check_scale",
    "check_weight",
    "checked_loader",
    "derive",
    "layer_name",
    "mark_unloaded",
    "missing",
]

_NO_SCALE = -1.0
_NO_WEIGHT = -128
"""In every place of a row: no row of a real weight is that throughout."""

Loader = Callable[..., Any]


def layer_name(layer: torch.nn.Module) -> str:
    """The layer's path in the model."""
    return getattr(layer, "prefix", "") or getattr(layer, "layer_name", "") or type(layer).__name__


def checked_loader(
    layer: torch.nn.Module,
    loader: Loader,
    refresh: Callable[[torch.nn.Module], None] | None,
    stored: torch.dtype = torch.int8,
) -> Loader:
    """``loader`` for the parameters of ``layer``, with the tensor named when it does not fit.

    Args:
        refresh: derives again what the layer computes with; it runs after each load once the layer
            has been processed, that is when weights are reloaded. None if they cannot be: what came
            from the checkpoint was converted and is gone.
        stored: the dtype of 8-bit weights in the checkpoint. Their parameter is int8 in any case,
            and holds the bits of another dtype until they are converted.

    Raises:
        CheckpointError: by the returned loader: a tensor of another dtype or shape.
        UnsupportedError: by the returned loader: a reload where ``refresh`` is None.
    """

    @functools.wraps(loader)
    def load(param: torch.nn.Parameter, loaded: Tensor, *args: Any, **keywords: Any) -> Any:
        derived = getattr(layer, "derived", False)
        if derived and refresh is None:
            raise forms.lost(layer_name(layer))
        if param.dtype == torch.int8 and param.dim() > 1:
            if loaded.dtype != stored:
                raise CheckpointError(
                    f"{layer_name(layer)}: config.json says that this layer's weights are {stored} "
                    f"and the checkpoint holds {loaded.dtype}. Correct quantization_config "
                    "(ignore, targets) in config.json, or quantise the checkpoint again."
                )
            loaded = loaded.view(torch.int8)
        try:
            if isinstance(param, PerTensorScaleParameter) and not args and not keywords:
                # One scale for a projection that is fused in the checkpoint already.
                param.data.copy_(loaded.reshape(1))
                done: Any = True
            else:
                done = loader(param, loaded, *args, **keywords)
        except (AssertionError, IndexError, RuntimeError) as error:
            raise CheckpointError(
                f"{layer_name(layer)}: a tensor of shape {tuple(loaded.shape)} does not fit into a "
                f"parameter of shape {tuple(param.shape)} (of this rank). The checkpoint does not "
                "belong to this config.json, or the layer cannot be divided by "
                "--tensor-parallel-size."
            ) from error
        if derived and refresh is not None and not loaded.is_meta:
            refresh(layer)
        return done

    return load


def mark_unloaded(layer: torch.nn.Module) -> None:
    """Give scales and int8 weights of a new layer a value that tells they were not loaded."""
    layer.from_checkpoint = get_current_vllm_config().load_config.load_format != "dummy"
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter.dtype == torch.int8 and parameter.dim() > 1:
            parameter.data.fill_(_NO_WEIGHT)
        elif parameter.is_floating_point() and "scale" in name:
            parameter.data.fill_(_NO_SCALE)


def missing(layer: torch.nn.Module, name: str) -> CheckpointError:
    """The error for a tensor that was not loaded."""
    return CheckpointError(
        f"{layer_name(layer)}: {name} is missing from the checkpoint, or part of it. Copy all "
        "files of the checkpoint, or quantise it again."
    )


def check_scale(layer: torch.nn.Module, name: str, *, zero: bool = True) -> None:
    """The scales are loaded, finite, and not negative (nor zero, unless ``zero``).

    Raises:
        CheckpointError: naming layer and tensor.
    """
    if not layer.from_checkpoint:
        return
    scale = getattr(layer, name)
    if bool((scale == _NO_SCALE).any()):
        raise missing(layer, name)
    ok = torch.isfinite(scale) & (scale >= 0 if zero else scale > 0)
    if not bool(ok.all()):
        raise CheckpointError(
            f"{layer_name(layer)}: {name} holds {int((~ok).sum())} of {scale.numel()} values that "
            "are NaN, infinite or negative. The checkpoint is damaged: quantise it again."
        )


def check_weight(layer: torch.nn.Module, name: str) -> None:
    """Every row of an int8 weight is loaded.

    Raises:
        CheckpointError: naming layer and tensor.
    """
    weight = getattr(layer, name)
    if layer.from_checkpoint and bool((weight.amax(-1) == _NO_WEIGHT).any()):
        raise missing(layer, name)


def check_numbers(layer: torch.nn.Module, name: str, values: Tensor) -> None:
    """Every weight was loaded and is a number. Shapes: values, any.

    Raises:
        CheckpointError: naming layer and tensor.
    """
    # A NaN is its tensor's smallest and largest; isfinite would need a copy of the weight.
    if layer.from_checkpoint and not bool(torch.isfinite(torch.stack(values.aminmax())).all()):
        raise CheckpointError(
            f"{layer_name(layer)}: {name} is missing from the checkpoint, or holds NaN. Copy all "
            "files of the checkpoint, or quantise it again."
        )


def add_parameter(
    layer: torch.nn.Module, name: str, data: Tensor, attributes: dict[str, Any]
) -> None:
    """Give ``layer`` a parameter for the loader to fill, with vLLM's ``attributes`` of loading.

    Shapes: data, any; the parameter is ``data`` itself, without a gradient.
    """
    parameter = torch.nn.Parameter(data, requires_grad=False)
    layer.register_parameter(name, parameter)
    set_weight_attrs(parameter, attributes)


def derive(layer: torch.nn.Module, name: str, value: Tensor) -> None:
    """Keep a copy of ``value`` as ``layer.<name>``, in the place of one that is there already.

    A copy, since ``value`` may be a view of the parameter that it was derived from.
    Shapes: value, any, and the same in each call: a captured graph holds the address.
    """
    present = getattr(layer, name, None)
    if present is None:
        layer.register_buffer(name, value.detach().contiguous().clone(), persistent=False)
    else:
        present.copy_(value)
    layer.derived = True
