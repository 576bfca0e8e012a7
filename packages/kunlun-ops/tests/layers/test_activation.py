# SPDX-License-Identifier: Apache-2.0
"""Every activation layer of vLLM, ours or its own, against vLLM's formula in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from support.layer_pairs import DTYPES, ROWS, replaced_and_own, strided
from support.layer_pairs import TOLERANCES as ROUNDED_ONCE
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.custom_op import CustomOp, op_registry_oot
from vllm.model_executor.layers import activation
from vllm.model_executor.layers.activation import GeluAndMul, QuickGELU, SiluAndMul

from vllm_kunlun.ops.layers import LAYERS, register_layers

TOLERANCES = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float16: {"rtol": 4e-3, "atol": 8e-3},
    torch.bfloat16: {"rtol": 3e-2, "atol": 6e-2},
}
BUILDS: dict[str, Callable[[torch.dtype], Any]] = {
    "FastGELU": lambda dtype: activation.FastGELU(),
    "FatreluAndMul": lambda dtype: activation.FatreluAndMul(threshold=0.3),
    "GeluAndMul": lambda dtype: activation.GeluAndMul(),
    "GeluAndMul-tanh": lambda dtype: activation.GeluAndMul("tanh"),
    "GeluAndMulSparse": lambda dtype: activation.GeluAndMulSparse(0.7),
    "GeluAndMulSparse-tanh": lambda dtype: activation.GeluAndMulSparse(0.7, "tanh"),
    "MulAndSilu": lambda dtype: activation.MulAndSilu(),
    "NewGELU": lambda dtype: activation.NewGELU(),
    "QuickGELU": lambda dtype: activation.QuickGELU(),
    "ReLUSquaredActivation": lambda dtype: activation.ReLUSquaredActivation(),
    "SiluAndMul": lambda dtype: activation.SiluAndMul(),
    "SwigluOAIAndMul": lambda dtype: activation.SwigluOAIAndMul(alpha=1.5, limit=2.0),
    "SwigluStepAndMul": lambda dtype: activation.SwigluStepAndMul(limit=2.0),
    "XIELU": lambda dtype: activation.XIELU(0.7, 0.9, dtype=dtype),
}
if hasattr(activation, "SituAndMul"):  # those of 0.33
    BUILDS |= {
        "GELU": lambda dtype: activation.GELU(),
        "GELUTanh": lambda dtype: activation.GELUTanh(),
        "SiluAndMulWithClamp": lambda dtype: activation.SiluAndMulWithClamp(1.5, 1.7, 1.0),
        "SituAndMul": lambda dtype: activation.SituAndMul(1.3, 0.8),
    }


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


def test_the_list_is_complete() -> None:
    found = {
        name
        for name, item in vars(activation).items()
        if isinstance(item, type) and issubclass(item, CustomOp) and item is not CustomOp
    }
    assert found == {name.split("-")[0] for name in BUILDS}


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("shape", [(1, 2), (5, 66), (2, 3, 64)], ids=str)
@pytest.mark.parametrize("name", sorted(BUILDS))
def test_activation(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """CUDA and triton kernels are not there to be called, so what runs here runs on a card."""
    layer = BUILDS[name](dtype)
    assert layer._forward_method == layer.forward_oot
    with mock.patch.dict(op_registry_oot, clear=True):
        exact = BUILDS[name](dtype).double()
    x = (2 * torch.randn(*shape)).to(dtype)
    kept = x.clone()
    expected = exact.forward_native(x.double()).to(dtype)
    torch.testing.assert_close(layer(x), expected, **TOLERANCES[dtype])
    wide = torch.randn(*shape[:-1], 2 * shape[-1]).to(dtype)
    view = wide[..., 1 : 1 + shape[-1]]
    expected = exact.forward_native(view.double()).to(dtype)
    torch.testing.assert_close(layer(view), expected, **TOLERANCES[dtype])
    assert torch.equal(x, kept)


def test_xielu_passes_by_a_cuda_package() -> None:
    layer = activation.XIELU(dtype=torch.float32)
    assert type(layer) is LAYERS["XIELU"]
    layer._xielu_cuda_obj = object()
    with mock.patch.object(torch.Tensor, "is_cuda", True):
        layer(torch.randn(3, 4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 33, 96])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize(
    "build",
    [SiluAndMul, GeluAndMul, lambda: GeluAndMul("tanh"), QuickGELU],
    ids=["SiluAndMul", "GeluAndMul", "GeluAndMul-tanh", "QuickGELU"],
)
def test_ours_equals_vllms(
    build: Any, rows: tuple[int, ...], width: int, dtype: torch.dtype
) -> None:
    ours, theirs = replaced_and_own(build)
    rtol, atol = ROUNDED_ONCE[dtype]
    for x in (torch.randn(*rows, 2 * width).to(dtype), strided(*rows, 2 * width, dtype=dtype)):
        kept = x.clone()
        # In gelu's tail 1 + erf(x) cancels, differently for each of torch's loops.
        expected = theirs.forward_native(3 * x)
        torch.testing.assert_close(ours(3 * x), expected, rtol=rtol, atol=10 * atol)
        ours(x)
        assert torch.equal(x, kept)
