# SPDX-License-Identifier: Apache-2.0
"""The emulator's routing functions: by hand, and what they refuse.

Values over dtypes and shapes are in the conformance cases.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vllm_kunlun.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.emulator.checks import VendorContractError

INT32 = torch.int32


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=INT32)


def test_softmax_by_hand() -> None:
    """exp(ln 1), exp(ln 2), exp(ln 5): probabilities 1/8, 2/8, 5/8."""
    x = torch.tensor([[1.0, 2.0, 5.0]]).log()
    weights, ids = torch.empty(1, 2), ints(1, 2)
    kunlun_ops.moe_softmax_topk(x, weights, ids, ints(0))
    torch.testing.assert_close(weights, torch.tensor([[5 / 8, 2 / 8]]))
    assert ids.tolist() == [[2, 1]]
    kunlun_ops.moe_softmax_topk_norm(x, weights, ids, None, True)
    torch.testing.assert_close(weights, torch.tensor([[5 / 7, 2 / 7]]))


def test_ties_go_to_the_first_expert_when_stable() -> None:
    weights, ids = torch.empty(3, 2), ints(3, 2)
    kunlun_ops.moe_softmax_topk_norm(torch.zeros(3, 70), weights, ids, None, True)
    assert ids.tolist() == [[0, 1]] * 3


def test_sorting_by_hand() -> None:
    """Pairs choose experts 2, 0, 2, 1: sorted order is pairs 1, 3, 0, 2."""
    ids = torch.tensor([[2, 0], [2, 1]], dtype=INT32)
    x = torch.tensor([[10.0], [20.0]])
    position, lod, expand = xspeedgate_ops.moe_pre_small(ids, 4, False, True, x=x)
    assert position.tolist() == [2, 0, 3, 1]
    assert lod.tolist() == [0, 1, 2, 4, 4]
    assert expand.flatten().tolist() == [10.0, 20.0, 10.0, 20.0]
    statistic, index, counts, ends = ints(12, 4), ints(4), ints(4), ints(5)
    rows = torch.empty(4, 1)
    kunlun_ops.gen_block_statistic(ids, statistic)
    kunlun_ops.moe_pre_sorted(x, ids, statistic, rows, index, counts, ends)
    assert (index.tolist(), counts.tolist(), ends.tolist()) == (
        [2, 0, 3, 1],
        [1, 1, 2, 0],
        [0, 1, 2, 4, 4],
    )


def softmax(**other: Any) -> None:
    given = {
        "x": torch.zeros(3, 6), "normed_score": torch.zeros(3, 2), "topk_index": ints(3, 2),
        "block_statistic": ints(12, 6), **other,
    }  # fmt: skip
    kunlun_ops.moe_softmax_topk_norm(*given.values(), True)


def sigmoid(**other: Any) -> None:
    given = {
        "x": torch.zeros(3, 6), "topk_index": ints(3, 2), "norm_score": torch.zeros(3, 2),
        "block_statistic": ints(12, 6), "bias": torch.zeros(6), "scale": 1.0, "n_group": 3,
        "topk_group": 2, **other,
    }  # fmt: skip
    kunlun_ops.moe_sigmoid_group_topk_norm(*given.values())


def pre_sorted(**other: Any) -> None:
    statistic = ints(12, 4)
    statistic[0, 0] = 6
    given = {
        "x": torch.zeros(3, 8), "topk_index": ints(3, 2), "block_statistic": statistic,
        "moe_expand": torch.zeros(6, 8), "moe_index": ints(6), "expert_m": ints(4),
        "sorted_tokens_num_lod": ints(5), **other,
    }  # fmt: skip
    kunlun_ops.moe_pre_sorted(*given.values())


@pytest.mark.parametrize("call", [softmax, sigmoid, pre_sorted])
def test_the_good_call_passes(call: Any) -> None:
    call()


@pytest.mark.parametrize(
    ("call", "argument", "value"),
    [
        (softmax, "x", torch.zeros(3, 6, dtype=torch.float16)),
        (softmax, "x", torch.zeros(6, 3).t()),
        (softmax, "normed_score", torch.zeros(3, 3)),
        (softmax, "normed_score", torch.zeros(3, 2, dtype=torch.float16)),
        (softmax, "topk_index", torch.zeros(3, 2, dtype=torch.int64)),
        (softmax, "topk_index", ints(3, 7)),
        (softmax, "block_statistic", ints(12, 5)),
        (sigmoid, "block_statistic", None),
        (sigmoid, "block_statistic", ints(12, 7)),
        (sigmoid, "n_group", 4),
        (sigmoid, "n_group", None),
        (sigmoid, "topk_group", 4),
        (sigmoid, "bias", torch.zeros(5)),
        (pre_sorted, "block_statistic", ints(12, 4)),
        (pre_sorted, "topk_index", ints(3, 2) + 4),
        (pre_sorted, "topk_index", ints(3, 2) - 1),
        (pre_sorted, "moe_expand", torch.zeros(6, 7)),
        (pre_sorted, "moe_index", ints(5)),
        (pre_sorted, "expert_m", ints(5)),
        (pre_sorted, "sorted_tokens_num_lod", ints(4)),
    ],
)
def test_refused(call: Any, argument: str, value: Any) -> None:
    with pytest.raises(VendorContractError) as caught:
        call(**{argument: value})
    assert caught.value.argument == argument


def test_more_choices_than_the_kept_groups_have() -> None:
    with pytest.raises(VendorContractError) as caught:
        sigmoid(topk_index=ints(3, 5), norm_score=torch.zeros(3, 5))
    assert caught.value.argument == "topk_index"


@pytest.mark.parametrize(
    ("function", "arguments", "argument"),
    [
        ("moe_pre_small", (ints(97, 8), 4, False, True, torch.zeros(97, 8)), "topk_ids"),
        ("moe_pre_small", (ints(2, 2), 4, True, True, torch.zeros(2, 8)), "index_have_neg"),
        ("moe_pre_small", (ints(2, 2) + 4, 4, False, True, torch.zeros(2, 8)), "topk_ids"),
        ("moe_pre_small", (ints(2, 2), 4, False, True, torch.zeros(3, 8)), "x"),
        ("moe_pre_small", (ints(2, 2), 4, False, True, None), "x"),
        ("moe_active_expert_balance", (ints(2, 2) - 1, 4, False), "topk_ids"),
        ("fused_moe", (torch.zeros(50, 8), torch.zeros(2, 10, 8), torch.zeros(2, 8, 5),
                       torch.zeros(50, 8), ints(3), ints(400), ints(3)), "normed_score"),
    ],
)  # fmt: skip
def test_small_functions_refuse(function: str, arguments: tuple, argument: str) -> None:
    with pytest.raises(VendorContractError) as caught:
        getattr(xspeedgate_ops, function)(*arguments)
    assert caught.value.argument == argument
    assert caught.value.function == f"xspeedgate_ops.{function}"


def test_the_small_sorters_limit() -> None:
    """768 pairs run, and one more does not."""
    xspeedgate_ops.moe_pre_small(ints(96, 8), 4, False, True, x=torch.zeros(96, 2))
    with pytest.raises(VendorContractError, match="at most 768 pairs"):
        xspeedgate_ops.moe_pre_small(ints(769, 1), 4, False, True, x=torch.zeros(769, 2))
