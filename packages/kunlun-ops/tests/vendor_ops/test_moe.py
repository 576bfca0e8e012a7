# SPDX-License-Identifier: Apache-2.0
"""The experts' adapter passes each argument as the contract says."""

from __future__ import annotations

import types
from typing import Any

import pytest
from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.vendor_ops import library


def products(*names: str) -> dict[str, Any]:
    """What no caller has ever set is passed as the constants of the contract."""
    everything = [
        "x", "weight", "sorted_tokens_num_lod", "sorted_tokens_idx", "moe_topk", "y", "act",
        "x_perchannel_max", "w_perchannel_max", "topk_ids",
    ]  # fmt: skip
    return {
        **{name: name if name in names or name in everything[:6] else None for name in everything},
        **dict.fromkeys(["topk_w", "bias", "tgemm_type", "tweight_type"]),
        "scale_n": 0,
        "scale_k": 0,
        "use_pack_int4": False,
        "sort_mode": True,
    }


INT8_PRODUCT = ("x_perchannel_max", "w_perchannel_max")


@pytest.mark.parametrize(
    ("given", "passed"),
    [((), ()), (("act",), ("act",)), (("topk_ids",), ()),
     ((*INT8_PRODUCT, "topk_ids"), (*INT8_PRODUCT, "topk_ids"))],
    ids=str,
)  # fmt: skip
def test_experts_product_arguments(
    given: tuple[str, ...], passed: tuple[str, ...], recorders: dict[str, Recorder]
) -> None:
    """The choices go to the int8 product alone."""
    always = list(products())[:6]
    vendor_ops.moe_fc(**{name: name for name in (*always, *given)})
    assert recorders["kunlun_ops"].calls == [("moe_fc", (), products(*passed))]


def test_a_card_may_take_the_int8_product_without_the_choices(
    recorders: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_kunlun.ops.vendor_ops.moe.chosen", lambda name: "without")
    always = list(products())[:6]
    vendor_ops.moe_fc(**{name: name for name in (*always, *INT8_PRODUCT, "topk_ids")})
    assert recorders["kunlun_ops"].calls == [("moe_fc", (), products(*INT8_PRODUCT))]


def test_either_name_of_the_routing_statistic_is_served() -> None:
    """Builds differ in it: by position the call is right either way."""
    seen = []

    def in_one_build(x, topk_index, norm_score, block_static, bias, scale, n_group, topk_group):
        seen.append((topk_index, norm_score, block_static, scale, n_group, topk_group))

    def in_another(x, topk_index, norm_score, block_statistic, bias, scale, n_group, topk_group):
        seen.append((topk_index, norm_score, block_statistic, scale, n_group, topk_group))

    for build in (in_one_build, in_another):
        wheel = types.SimpleNamespace(moe_sigmoid_group_topk_norm=build)
        with library.use_libraries(kunlun_ops=wheel):
            vendor_ops.moe_sigmoid_group_topk_norm(
                "x", "ids", "weights", "counts", "bias", 2.5, 8, 4
            )
    assert seen == [("ids", "weights", "counts", 2.5, 8, 4)] * 2


def test_small_sorter_and_hint_arguments(recorders: dict[str, Recorder]) -> None:
    vendor_ops.moe_pre_small("topk_ids", 8, False, True, "x")
    vendor_ops.moe_active_expert_balance("topk_ids", 8)
    assert recorders["xspeedgate_ops"].calls == [
        ("moe_pre_small", ("topk_ids", 8, False, True), {"x": "x"}),
        ("moe_active_expert_balance", ("topk_ids", 8, False), {}),
    ]
