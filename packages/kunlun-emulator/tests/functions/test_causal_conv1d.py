# SPDX-License-Identifier: Apache-2.0
"""The causal convolution against torch's own, and step after step against all at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops.torch_ops import causal_conv1d

DIM = 20
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
    torch.bfloat16: {"rtol": 1e-2, "atol": 2e-2},
}


def vector(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def prefill(x: Tensor, weight: Tensor, bias: Tensor | None, states: Tensor, lengths: list[int],
            rows: Tensor, known: Tensor) -> Tensor:  # fmt: skip
    lod = torch.tensor([0, *lengths]).cumsum(0).int()
    return causal_conv1d.causal_conv1d_(
        x, weight, bias, states, lod, lod.clone(), rows, rows.clone(), known, known.clone()
    )


def torchs(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One sequence ``[T, dim]`` from nothing, by torch's convolution in float64."""
    width = weight.shape[1]
    padded = F.pad(x.double().T, (width - 1, 0)).unsqueeze(0)
    kernel = weight.double().unsqueeze(1)
    result = F.conv1d(padded, kernel, None if bias is None else bias.double(), groups=DIM)
    return F.silu(result[0].T)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", [2, 4, 5])
@pytest.mark.parametrize("with_bias", [False, True])
def test_prefill_equals_torch(width: int, with_bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(width)
    lengths = [7, 1, 30, 2]
    x, weight = torch.randn(sum(lengths), DIM).to(dtype), torch.randn(DIM, width).to(dtype)
    bias = torch.randn(DIM).to(dtype) if with_bias else None
    states = torch.full((6, width - 1, DIM), torch.nan, dtype=dtype)
    out = prefill(x, weight, bias, states, lengths, vector(3, 0, 5, 1), vector(0, 0, 0, 0))
    parts = [torchs(part, weight, bias) for part in x.split(lengths)]
    torch.testing.assert_close(out.double(), torch.cat(parts), **TOLERANCE[dtype])
    last = F.pad(x[:7], (0, 0, width - 1, 0))[-(width - 1) :]
    assert torch.equal(states[3], last)


@pytest.mark.parametrize("cuts", [[40], [39, 1], [1, 1, 1, 37], [2, 20, 18]], ids=str)
@pytest.mark.parametrize("state_len", [3, 5])
def test_pieces_equal_the_whole(cuts: list[int], state_len: int) -> None:
    """A prompt in pieces, pieces of one token through the one-token function."""
    torch.manual_seed(len(cuts))
    x, weight = torch.randn(40, DIM), torch.randn(DIM, 4)
    states = torch.randn(4, state_len, DIM)
    row, outputs = vector(2), []
    for n, part in enumerate(x.split(cuts)):
        if n and len(part) == 1:
            outputs.append(
                causal_conv1d.causal_conv1d_update_(part, weight, None, states, row, row.clone())
            )
        else:
            outputs.append(prefill(part, weight, None, states, [len(part)], row, vector(n > 0)))
    torch.testing.assert_close(torch.cat(outputs).double(), torchs(x, weight, None),
                               **TOLERANCE[torch.float32])  # fmt: skip
    assert torch.equal(states[2, :3], x[-3:])


def test_one_token_by_hand() -> None:
    """Past 1, 2, 3 and then 4 under weights 1, 10, 100, 1000: 4321, and SiLU leaves it."""
    states = torch.tensor([[[1.0], [2.0], [3.0]]])
    weight = torch.tensor([[1.0, 10.0, 100.0, 1000.0]])
    out = causal_conv1d.causal_conv1d_update_(
        torch.tensor([[4.0]]), weight, None, states, vector(0), vector(0)
    )
    assert out.item() == 4321.0
    assert states.flatten().tolist() == [2.0, 3.0, 4.0]
