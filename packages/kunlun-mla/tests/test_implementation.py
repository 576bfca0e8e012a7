# SPDX-License-Identifier: Apache-2.0
"""What both layers share: what they refuse, and the weights of the absorbed products."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.mla.flashmla import FlashMLABackend
from vllm_kunlun.mla.flashmla_sparse import FlashMLASparseBackend
from vllm_kunlun.mla.implementation import refuse_output_scale
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize("backend", [FlashMLABackend, FlashMLASparseBackend])
@pytest.mark.parametrize("name", ["decode", "mixed"])
def test_int8_products(name, backend, make_batch, monkeypatch):
    """Off by what rounding of weights to 127 steps explains, and not the float result."""
    monkeypatch.setenv("VLLM_KUNLUN_ENABLE_INT8_BMM", "1")
    batch = make_batch(name)
    positions = torch.arange(max(batch.lengths), dtype=torch.int32)
    everything = SimpleNamespace(topk_indices_buffer=positions.expand(len(batch.new), -1).clone())
    for row, length in enumerate(batch.visible()):
        everything.topk_indices_buffer[row, length:] = -1
    error = (batch.run(backend, everything).double() - batch.expected()).abs().max()
    assert 1e-5 < error < 0.05


@pytest.mark.parametrize(
    "option",
    ["alibi_slopes", "sliding_window", "logits_soft_cap", "kv_sharing_target_layer_name"],
)
def test_what_no_function_has_is_refused(option, implementation):
    weight = torch.zeros(3 * (24 + 32), 40)
    with pytest.raises(UnsupportedError, match=option):
        implementation(FlashMLABackend, weight, **{option: 3})


def test_an_encoder_is_refused(implementation):
    with pytest.raises(UnsupportedError, match="decoders only"):
        implementation(FlashMLABackend, torch.zeros(3 * (24 + 32), 40), attn_type="encoder")


def test_a_quantised_output_is_refused():
    refuse_output_scale(None, None)
    for scales in ((torch.ones(1), None), (None, torch.ones(1))):
        with pytest.raises(UnsupportedError, match="quantised output"):
            refuse_output_scale(*scales)


def test_a_static_scale_of_kv_b_proj_is_refused(implementation):
    layer = implementation(FlashMLABackend, torch.zeros(3 * (24 + 32), 40))
    layer.kv_b_proj.int8_input_scale = torch.ones(1)
    with pytest.raises(UnsupportedError, match="kv_b_proj is quantised with a static scale"):
        layer.process_weights_after_loading(torch.float32)
