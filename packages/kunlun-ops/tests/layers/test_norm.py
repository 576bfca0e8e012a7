# SPDX-License-Identifier: Apache-2.0
"""Norm layers against the arithmetic of vLLM's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.layer_pairs import DTYPES, ROWS, close, replaced_and_own, strided
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm, RMSNormGated

from vllm_kunlun.ops.layers import register_layers
from vllm_kunlun.ops.torch_ops import vllm_names


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    vllm_names.define()
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hidden", [1, 33, 576])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("kind", [RMSNorm, GemmaRMSNorm])
def test_norm(kind: Any, rows: tuple[int, ...], hidden: int, dtype: torch.dtype) -> None:
    ours, theirs = replaced_and_own(lambda: kind(hidden, eps=1e-5).to(dtype))
    for x in (torch.randn(*rows, hidden).to(dtype), strided(*rows, hidden, dtype=dtype)):
        kept = x.clone()
        close(ours(x), theirs.forward_native(x))
        assert torch.equal(x, kept), "without a residual the input is not to be written"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hidden", [1, 33, 576])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("kind", [RMSNorm, GemmaRMSNorm])
def test_norm_with_residual(kind: Any, rows: tuple[int, ...], hidden: int, dtype: Any) -> None:
    ours, theirs = replaced_and_own(lambda: kind(hidden, eps=1e-5).to(dtype))

    def contiguous() -> torch.Tensor:
        return torch.randn(*rows, hidden).to(dtype)

    def cut() -> torch.Tensor:
        return strided(*rows, hidden, dtype=dtype)

    for x, residual in ((contiguous(), contiguous()), (cut(), contiguous()), (contiguous(), cut())):
        expected = theirs.forward_native(x.clone(), residual.clone())
        close(ours(x, residual), expected)


def test_norm_in_float32_on_a_half_precision_stream() -> None:
    ours, theirs = replaced_and_own(lambda: RMSNorm(24, dtype=torch.float32))
    x, residual = torch.randn(3, 24).half(), torch.randn(3, 24).half()
    assert ours(x).dtype == theirs.forward_native(x).dtype
    torch.testing.assert_close(ours(x), theirs.forward_native(x), rtol=1e-5, atol=1e-6)
    mixed = ours(x.clone(), residual.float())
    torch.testing.assert_close(mixed, theirs.forward_native(x, residual.float()))


def test_norm_without_a_weight_or_over_a_part_of_the_row() -> None:
    x = torch.randn(4, 24)
    bare = RMSNorm(24, has_weight=False)
    wide = x.double()
    expected = wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
    torch.testing.assert_close(bare(x), expected.float(), rtol=1e-5, atol=1e-6)
    ours, theirs = replaced_and_own(lambda: RMSNorm(24, var_hidden_size=8))
    batch = torch.randn(2, 3, 24)
    close(ours(batch), theirs.forward_native(batch))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("norm_before_gate", [True, False])
@pytest.mark.parametrize("group_size", [None, 16])
def test_gated_norm(
    group_size: int | None, norm_before_gate: bool, rows: tuple[int, ...], dtype: torch.dtype
) -> None:
    ours, theirs = replaced_and_own(
        lambda: RMSNormGated(48, 1e-5, group_size, norm_before_gate).to(dtype)
    )
    theirs.float()  # vLLM squares in the layer's dtype, until 0.33
    x, z = torch.randn(*rows, 48).to(dtype), strided(*rows, 48, dtype=dtype)
    close(ours(x, z), theirs.forward_native(x.float(), z.float()).to(dtype))
    close(ours(x), theirs.forward_native(x.float()).to(dtype))
    wide = z.float()
    own = theirs.forward_native(x, wide)
    assert ours(x, wide).dtype == own.dtype, "operands of two dtypes: vLLM's arithmetic"


@pytest.mark.parametrize(("gate", "other"), [("sigmoid", True), ("silu", False)])
def test_a_gate_that_is_not_silu_is_vllms(
    gate: str, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = replaced_and_own(lambda: RMSNormGated(48))
    asked: list[Any] = []
    monkeypatch.setattr(ours, "forward_native", lambda *given: asked.append(given) or given[0])
    ours.activation = gate
    x = torch.randn(3, 48)
    ours(x, x)
    assert bool(asked) == other
