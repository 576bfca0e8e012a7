# SPDX-License-Identifier: Apache-2.0
"""vLLM's latent layer reaches ``forward`` of its implementation with the whole step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.platforms import current_platform

from vllm_kunlun.ops.vllm_modules import latent_attention
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.attention_layer import MLAAttention

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place


class Implementation(latent_attention.LatentAttentionImpl):
    def __init__(self, **_sizes: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def forward(self, layer: Any, *step: Any) -> torch.Tensor:
        self.calls.append((layer, *step))
        return torch.ones(1)

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        self.calls.append(("weights", act_dtype))


def test_the_step_comes_whole() -> None:
    layer = SimpleNamespace(impl=Implementation())
    step = tuple(range(9))
    assert latent_attention.forward_impl(layer, *step[:-1]) == 1
    assert layer.impl.calls == [(layer, *step[:-1])]


def test_vllms_layer_prepares_the_weights_of_its_implementation() -> None:
    layer = SimpleNamespace(impl=Implementation(), quant_config=None, layer_name="a")
    for name in ("q", "k", "v", "prob"):
        setattr(layer, f"_{name}_scale", torch.ones(1))
    MLAAttention.process_weights_after_loading(layer, torch.float16)
    assert layer.impl.calls == [("weights", torch.float16)]


def test_the_cache_is_not_written_twice() -> None:
    layer = SimpleNamespace(impl=Implementation())  # asked for nothing else
    latent_attention.update_kv_cache(layer, *range(7))
    assert layer.impl.calls == []


def test_a_quantised_output_is_refused_and_an_absent_one_is_none() -> None:
    layer = SimpleNamespace(impl=Implementation())
    latent_attention.forward_impl(layer, *range(8), quant_group_size=None)
    assert len(layer.impl.calls) == 1
    with pytest.raises(UnsupportedError, match="quant_group_size"):
        latent_attention.forward_impl(layer, *range(8), quant_group_size=128)


@pytest.mark.parametrize("part", ["forward_mha", "forward_mqa"])
def test_a_part_of_a_step_is_not_computed(part: str) -> None:
    with pytest.raises(NotImplementedError, match="call forward"):
        getattr(Implementation(), part)()
