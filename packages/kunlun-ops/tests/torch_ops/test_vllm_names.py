# SPDX-License-Identifier: Apache-2.0
"""The ops that vLLM looks up as ``torch.ops._C``, against vLLM's own torch code."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from vllm._custom_ops import apply_repetition_penalties_torch

from vllm_kunlun.ops.torch_ops import vllm_names


@pytest.fixture(autouse=True)
def _defined() -> None:
    vllm_names.define()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (3, 17), (5, 300)])
def test_repetition_penalties(rows: int, tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(rows)
    logits = (4 * torch.randn(rows, tokens)).to(dtype)
    logits[:, 0] = 0.0
    in_prompt, in_output = torch.rand(2, rows, tokens) < 0.4
    penalties = torch.empty(rows).uniform_(0.5, 2.0)
    penalties[0] = 1.0
    expected = logits.double()
    apply_repetition_penalties_torch(expected, in_prompt, in_output, penalties.double())
    kept = logits.clone()
    returned = torch.ops._C.apply_repetition_penalties_(logits, in_prompt, in_output, penalties)
    assert returned is None
    tolerance = 1e-6 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(logits.double(), expected, rtol=tolerance, atol=tolerance)
    untouched = ~(in_prompt | in_output)
    assert torch.equal(logits[untouched], kept[untouched])
    assert torch.equal(logits[0], kept[0]), "a penalty of 1 changes nothing"


def test_penalty_of_a_masked_token_stays_minus_infinity() -> None:
    logits = torch.tensor([[float("-inf"), 2.0, -2.0]])
    seen = torch.ones(1, 3, dtype=torch.bool)
    torch.ops._C.apply_repetition_penalties_(logits, seen, seen, torch.tensor([2.0]))
    assert logits.tolist() == [[float("-inf"), 1.0, -4.0]]


def test_penalties_are_declared_as_written_in_place() -> None:
    arguments = (torch.randn(2, 5), torch.rand(2, 5) < 0.5, torch.rand(2, 5) < 0.5, torch.ones(2))
    op = torch.ops._C.apply_repetition_penalties_.default
    assert op._schema.arguments[0].is_write
    torch.library.opcheck(op, arguments, test_utils=("test_schema",))


VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.t(),
    "offset-and-steps": lambda x: x[1:, 1::2],
    "repeated": lambda x: x[0].expand(3, 6),
    "no-rows": lambda x: x[2:2],
    "one-number": lambda x: x[2, 3],
    "half": lambda x: x.half(),
    "bool": lambda x: x > 5,
}


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_weak_reference_is_the_same_memory(name: str) -> None:
    tensor = VIEWS[name](torch.arange(24.0).view(4, 6))
    alias = torch.ops._C.weak_ref_tensor(tensor)
    assert alias.data_ptr() == tensor.data_ptr()
    assert alias.storage_offset() == tensor.storage_offset()
    assert alias.stride() == tensor.stride()
    assert (alias.dtype, alias.device) == (tensor.dtype, tensor.device)
    assert torch.equal(alias, tensor)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_weak_reference_sees_what_is_written(mode: type) -> None:
    with mode():
        tensor = torch.zeros(3)
        alias = torch.ops._C.weak_ref_tensor(tensor)
        tensor.fill_(4.0)
        assert alias.tolist() == [4.0] * 3
        alias.fill_(5.0)
    assert tensor.tolist() == [5.0] * 3


def test_weak_reference_of_nothing() -> None:
    alias = torch.ops._C.weak_ref_tensor(torch.empty(0, 3))
    assert alias.shape == (0, 3)


def test_weak_reference_keeps_no_memory() -> None:
    """The memory is an array of numpy's, which says when its last owner is gone."""
    array = np.ones(6, np.float32)
    owner, tensor = weakref.ref(array), torch.from_numpy(array)
    view = tensor.view(2, -1)
    aliases = [torch.ops._C.weak_ref_tensor(each) for each in (tensor, view)]
    assert [each.data_ptr() for each in aliases] == [tensor.data_ptr()] * 2
    del array, view
    assert owner() is not None
    del tensor
    assert owner() is None


@pytest.mark.parametrize("name", ["topk_softmax", "topk_sigmoid"])
def test_experts_are_chosen_with_and_without_the_newest_arguments(name: str) -> None:
    logits, rows = torch.randn(6, 8), torch.zeros(6, 2, dtype=torch.int32)
    chosen = []
    for more in ((), (None, 2.0, None) if name == "topk_sigmoid" else (None, None)):
        weights, ids = torch.empty(6, 2), torch.empty(6, 2, dtype=torch.int32)
        getattr(torch.ops._moe_C, name)(weights, ids, rows, logits, True, *more)
        chosen.append((weights, ids))
    (plain, ids), (scaled, same) = chosen
    assert torch.equal(ids, same)
    assert torch.equal(scaled, plain * (2.0 if name == "topk_sigmoid" else 1.0))
    torch.testing.assert_close(plain.sum(-1), torch.ones(6))


def test_defining_twice_is_harmless() -> None:
    libraries = list(vllm_names._libraries)
    vllm_names.define()
    assert libraries and vllm_names._libraries == libraries


def test_anything_else_of_that_library_stays_undefined() -> None:
    assert not hasattr(torch.ops._C, "rms_norm")
