# SPDX-License-Identifier: Apache-2.0
"""The registry of layers: names, a second registration, another plugin's layer."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.custom_op import CustomOp, op_registry_oot
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers.activation import GeluAndMul, QuickGELU, SiluAndMul
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm

from vllm_kunlun.ops.layers import LAYERS, register_layers
from vllm_kunlun.ops.torch_ops import vllm_names
from vllm_kunlun.platforms.errors import KunlunError


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    vllm_names.define()
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


def _vllm_classes() -> dict[str, type]:
    found = {}
    for module in (
        "activation",
        "attention.mm_encoder_attention",
        "layernorm",
        "vocab_parallel_embedding",
        "rotary_embedding",
        "rotary_embedding.common",
        "rotary_embedding.ernie45_vl_rope",
        "fused_moe.router.grouped_topk_router",
        "fused_moe.unquantized_fused_moe_method",
    ):
        imported = importlib.import_module(f"vllm.model_executor.layers.{module}")
        found.update(
            {name: item for name, item in vars(imported).items() if isinstance(item, type)}
        )
    return found


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_each_name_is_a_class_of_vllm_that_ours_extends(name: str) -> None:
    original = _vllm_classes()[name]
    assert original.__name__ == name
    assert issubclass(LAYERS[name], original)
    assert LAYERS[name].__name__ == f"Kunlun{name}"
    assert op_registry_oot[name] is LAYERS[name]


def test_registering_twice_changes_nothing() -> None:
    before = dict(op_registry_oot)
    register_layers()
    assert op_registry_oot == before


def test_a_layer_taken_by_another_plugin_is_an_error() -> None:
    class Foreign(RMSNorm):
        pass

    with (
        mock.patch.dict(op_registry_oot, {"RMSNorm": Foreign}),
        pytest.raises(
            KunlunError, match=r"layer RMSNorm is already replaced by .*Foreign.*VLLM_PLUGINS"
        ),
    ):
        register_layers()


@pytest.mark.parametrize(
    "build",
    [lambda: RMSNorm(8), lambda: GemmaRMSNorm(8), SiluAndMul, GeluAndMul, QuickGELU],
    ids=["RMSNorm", "GemmaRMSNorm", "SiluAndMul", "GeluAndMul", "QuickGELU"],
)
def test_constructing_vllms_class_gives_ours_and_dispatches_to_it(build: Any) -> None:
    layer = build()
    assert type(layer) is LAYERS[type(layer).name]
    assert layer._forward_method == layer.forward_oot


PLAIN = {
    "BailingMRotaryEmbedding",
    "DeepseekV4ScalingRotaryEmbedding",
    "FourierRotaryEmbedding",
    "MRotaryEmbeddingInterleaved",
}
"""Of 0.33, and not replaced: vLLM's plain torch is what runs."""


def test_every_rotary_layer_of_vllm_is_replaced() -> None:
    """What is no CustomOp (LongRoPE) is plain torch, whatever the device."""
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(rotary_embedding.__path__):
        loaded = importlib.import_module(f"{rotary_embedding.__name__}.{module.name}")
        found |= {
            name: item
            for name, item in vars(loaded).items()
            if isinstance(item, type) and issubclass(item, CustomOp) and item is not CustomOp
        }
    # The base is abstract.
    assert found.keys() - PLAIN - {"RotaryEmbeddingBase"} == {n for n in LAYERS if "Rotary" in n}
    for name in found.keys() & PLAIN:
        assert found[name].forward_oot is CustomOp.forward_oot
