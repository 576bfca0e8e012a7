# SPDX-License-Identifier: Apache-2.0
"""A quantised output projection: this rank's words of the vocabulary, and zeros."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.layers.linear import LinearMethodBase

from vllm_kunlun.quantization.linear.head import KunlunHeadMethod

VOCABULARY, PADDED, INPUTS = 24, 32, 4
IN_WORDS = {"packed_dim": 1, "packed_factor": 8}


class Recorded(LinearMethodBase):
    """A method whose parameters have the vocabulary along several of their dimensions."""

    def create_weights(self, layer, *args, weight_loader, **keywords):
        rows = PADDED // layer.ranks
        for name, shape, attributes in (
            ("weight", (rows, INPUTS), {"output_dim": 0}),
            ("qweight", (INPUTS, rows // 8), {"output_dim": 1, **IN_WORDS}),
            ("weight_packed", (rows, 2), {"output_dim": 0, **IN_WORDS}),
            ("scales", (2, rows), {"output_dim": 1}),
            ("weight_scale", (1,), {"output_dim": 0}),
            ("g_idx", (INPUTS,), {}),
        ):  # fmt: skip
            parameter = torch.nn.Parameter(torch.full(shape, 7.0), requires_grad=False)
            for key, value in {**attributes, "weight_loader": weight_loader}.items():
                setattr(parameter, key, value)
            layer.register_parameter(name, parameter)

    def apply(self, layer, x, bias=None):
        return x, bias

    def process_weights_after_loading(self, layer):
        layer.processed = True


def made(rank: int, ranks: int) -> torch.nn.Module:
    layer = torch.nn.Module()
    layer.ranks, each = ranks, PADDED // ranks
    layer.shard_indices = SimpleNamespace(
        org_vocab_start_index=min(rank * each, VOCABULARY),
        org_vocab_end_index=min((rank + 1) * each, VOCABULARY),
    )
    layer.quant_method = KunlunHeadMethod(Recorded(), "model.lm_head")
    layer.quant_method.create_weights(layer, weight_loader=None, params_dtype=torch.float16)
    return layer


WHOLE = {
    "weight": torch.randn(VOCABULARY, INPUTS),
    "qweight": torch.randn(INPUTS, VOCABULARY // 8),
    "weight_packed": torch.randn(VOCABULARY, 2),
    "scales": torch.randn(2, VOCABULARY),
}
ALONG = {"weight": 0, "qweight": 1, "weight_packed": 0, "scales": 1}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", WHOLE)
def test_the_ranks_hold_the_vocabulary_and_then_zeros(name, ranks):
    whole, dim, held = WHOLE[name], ALONG[name], []
    for rank in range(ranks):
        parameter = getattr(made(rank, ranks), name)
        parameter.weight_loader(parameter, whole)
        held.append(parameter.data)
    joined = torch.cat(held, dim)
    assert torch.equal(joined.narrow(dim, 0, whole.shape[dim]), whole)
    assert not joined.narrow(dim, whole.shape[dim], joined.shape[dim] - whole.shape[dim]).any()


@pytest.mark.parametrize("name", ["weight_scale", "g_idx"])
def test_what_all_ranks_share_is_copied(name):
    layer = made(1, 2)
    parameter = getattr(layer, name)
    value = torch.randn(parameter.shape)
    parameter.weight_loader(parameter, value)
    assert torch.equal(parameter, value)


def test_the_rest_is_the_methods_own():
    layer = made(0, 1)
    assert layer.prefix == "model.lm_head"
    layer.quant_method.process_weights_after_loading(layer)
    assert layer.processed
    assert layer.quant_method.apply(layer, 1, 2) == (1, 2)
