# SPDX-License-Identifier: Apache-2.0
"""The emulator's experts' functions: by hand, and what they refuse.

Values over dtypes and shapes are in the conformance cases.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vllm_kunlun.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.functions import moe_experts

INT32 = torch.int32


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=INT32)


def test_int8_product_is_exact() -> None:
    """Sums far beyond what float32 holds exactly, against 64-bit integers."""
    torch.manual_seed(0)
    x = torch.randint(-127, 128, (4, 5000), dtype=torch.int8)
    weight = torch.randint(-127, 128, (2, 16, 5000), dtype=torch.int8)
    x[0], weight[0, 0] = 127, 127  # 5000 * 127^2 is no number that float32 holds
    y = torch.empty(4, 1, 16)
    kunlun_ops.moe_fc(
        x=x, weight=weight, sorted_tokens_num_lod=torch.tensor([0, 1, 4], dtype=INT32),
        sorted_tokens_idx=ints(4), moe_topk=1, y=y,
        x_perchannel_max=torch.full((4, 1), 127.0),
        w_perchannel_max=torch.full((2, 16, 1), 127.0),
    )  # fmt: skip
    wide, rows = x.long(), weight.long()
    exact = torch.cat([wide[:1] @ rows[0].T, wide[1:] @ rows[1].T])
    assert torch.equal(y.view(4, 16), exact.float())


def fc(**other: Any) -> None:
    kunlun_ops.moe_fc(**{
        "x": torch.zeros(6, 8), "weight": torch.zeros(4, 10, 8),
        "sorted_tokens_num_lod": torch.tensor([0, 6, 6, 6, 6], dtype=INT32),
        "sorted_tokens_idx": ints(6), "moe_topk": 2, "y": torch.zeros(3, 2, 10), **other,
    })  # fmt: skip


def fused(**other: Any) -> None:
    lod = torch.tensor([0, 6, 6], dtype=INT32)
    given = {
        "x": torch.zeros(3, 8), "w13": torch.zeros(2, 10, 8), "w2": torch.zeros(2, 8, 5),
        "normed_score": torch.zeros(3, 2), "sorted_tokens_num_lod": lod,
        "sorted_tokens_idx": torch.arange(6, dtype=INT32), "experts_num_lod": lod, **other,
    }  # fmt: skip
    xspeedgate_ops.fused_moe(*given.values())


def post(**other: Any) -> None:
    given = {
        "x": torch.zeros(3, 2, 8), "moe_index": ints(3, 2), "normed_scale": torch.zeros(3, 2),
        "dequant_scale": torch.zeros(3, 2), "y": torch.zeros(3, 8), **other,
    }  # fmt: skip
    kunlun_ops.moe_post(*given.values())


@pytest.mark.parametrize("call", [fc, fused, post])
def test_the_good_call_passes(call: Any) -> None:
    call()


@pytest.mark.parametrize(
    ("call", "argument", "value"),
    [
        (fc, "x", torch.zeros(6, 7)),
        (fc, "weight", torch.zeros(4, 10, 8, dtype=torch.float16)),
        (fc, "y", torch.zeros(3, 2, 9)),
        (fc, "moe_topk", 4),
        (fc, "sorted_tokens_num_lod", torch.tensor([0, 6, 5, 6, 6], dtype=INT32)),
        (fc, "sorted_tokens_num_lod", torch.tensor([0, 6, 6, 6, 7], dtype=INT32)),
        (fc, "sorted_tokens_num_lod", torch.tensor([1, 6, 6, 6, 6], dtype=INT32)),
        (fc, "sorted_tokens_idx", ints(5)),
        (fc, "act", "SILU"),
        (fc, "topk_ids", ints(3, 2) + 1),
        (fc, "topk_ids", ints(3, 2) - 1),
        (fc, "topk_ids", ints(3, 2) + 4),
        (fc, "topk_ids", ints(6)),
        (fc, "topk_ids", torch.zeros(3, 2, dtype=torch.int64)),
        (fc, "bias", torch.zeros(10)),
        (fc, "use_pack_int4", True),
        (fused, "normed_score", torch.zeros(3, 2, dtype=torch.float64)),
        (fused, "w2", torch.zeros(2, 8, 6)),
        (fused, "sorted_tokens_idx", torch.arange(6, dtype=INT32) + 1),
        (fused, "sorted_tokens_num_lod", torch.tensor([0, 5, 5], dtype=INT32)),
        (post, "moe_index", ints(3, 2) + 6),
        (post, "normed_scale", torch.zeros(3, 2, dtype=torch.float16)),
        (post, "dequant_scale", torch.zeros(3, 3)),
        (post, "y", torch.zeros(3, 9)),
    ],
)
def test_refused(call: Any, argument: str, value: Any) -> None:
    with pytest.raises(VendorContractError) as caught:
        call(**{argument: value})
    assert caught.value.argument == argument


@pytest.mark.parametrize(("tokens", "choices"), [(57, 7), (399, 1)])
def test_fewer_pairs_than_the_fused_limit(tokens: int, choices: int) -> None:
    """399 run, and 400 do not: small sizes alone have ever been passed."""
    pairs = tokens * choices
    lod = torch.tensor([0, pairs, pairs], dtype=INT32)
    order = {
        "sorted_tokens_num_lod": lod,
        "sorted_tokens_idx": torch.arange(pairs, dtype=INT32),
        "experts_num_lod": lod,
    }
    fused(x=torch.zeros(tokens, 8), normed_score=torch.zeros(tokens, choices), **order)


def test_the_fused_limit_is_refused() -> None:
    lod = torch.tensor([0, 400, 400], dtype=INT32)
    order = {
        "sorted_tokens_num_lod": lod,
        "sorted_tokens_idx": torch.arange(400, dtype=INT32),
        "experts_num_lod": lod,
    }
    with pytest.raises(VendorContractError, match="fewer than 400 pairs"):
        fused(x=torch.zeros(50, 8), normed_score=torch.zeros(50, 8), **order)


def test_choices_of_other_ranks_are_negative() -> None:
    ids = torch.tensor([[0, -1], [0, 0], [-1, 0]], dtype=INT32)
    fc(topk_ids=ids, sorted_tokens_num_lod=torch.tensor([0, 4, 4, 4, 4], dtype=INT32))


def test_int8_needs_its_scales() -> None:
    eight = {"x": torch.zeros(6, 8, dtype=torch.int8),
             "weight": torch.zeros(4, 10, 8, dtype=torch.int8)}  # fmt: skip
    with pytest.raises(VendorContractError) as caught:
        fc(**eight)
    assert caught.value.argument == "x_perchannel_max"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_torch_without_a_grouped_product(monkeypatch, dtype: torch.dtype) -> None:
    """Torch before 2.8: experts 0 and 2 have no rows; each product is rounded once."""
    monkeypatch.delattr(torch, "_grouped_mm", raising=False)
    torch.manual_seed(0)
    x, weight = torch.randn(5, 20).to(dtype), torch.randn(4, 6, 20).to(dtype)
    ends = torch.tensor([0, 2, 2, 5], dtype=INT32)
    expected = torch.cat(
        [x[:2].double() @ weight[1].double().T, x[2:].double() @ weight[3].double().T]
    )
    found = moe_experts.grouped_mm(x, weight, ends)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-5)
