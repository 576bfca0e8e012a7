# SPDX-License-Identifier: Apache-2.0
"""Whether a rank holds a part of the experts, by either way of dividing them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer, is_divided


@pytest.mark.parametrize(
    ("expert_ranks", "tensor_ranks", "divided"), [(1, 1, False), (2, 1, True), (1, 2, True)]
)
def test_a_part_of_the_experts(expert_ranks: int, tensor_ranks: int, divided: bool) -> None:
    parallel = SimpleNamespace(ep_size=expert_ranks, tp_size=tensor_ranks)
    layer = SimpleNamespace(moe_config=SimpleNamespace(moe_parallel_config=parallel))
    assert is_divided(layer) is divided


def test_the_layer_is_one_with_weights() -> None:
    assert hasattr(ExpertLayer, "weight_loader")
