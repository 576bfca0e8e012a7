# SPDX-License-Identifier: Apache-2.0
"""GPTQ's dense layers: the zeros' format, the order of the inputs, parts that must agree."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.linear.gptq import KunlunGPTQLinearMethod

pytestmark = pytest.mark.usefixtures("one_rank")

INPUTS, OUTPUTS, GROUP = 32, 16, 8


def method(**settings) -> KunlunGPTQLinearMethod:
    made = KunlunGPTQLinearMethod.__new__(KunlunGPTQLinearMethod)
    made.quant_config = SimpleNamespace(
        **{"weight_bits": 8, "group_size": GROUP, "desc_act": False, "checkpoint_format": "gptq",
           **settings}
    )  # fmt: skip
    return made


def loaded(
    g_idx: torch.Tensor, groups: int = INPUTS // GROUP, seed: int = 0
) -> tuple[torch.nn.Module, ...]:
    """A layer as the checkpoint left it, 8 bits, and its codes and stored zeros."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(256, (INPUTS, OUTPUTS), generator=generator)
    stored = torch.randint(1, 255, (groups, OUTPUTS), generator=generator)
    words = [
        sum(part[..., i] << 8 * i for i in range(4)).to(torch.int32)
        for part in (codes.T.unflatten(1, (-1, 4)), stored.unflatten(1, (-1, 4)))
    ]
    layer = torch.nn.Module()
    layer.prefix = "m.q_proj"
    for name, value in (
        ("qweight", words[0].T.contiguous()), ("qzeros", words[1]), ("g_idx", g_idx.int()),
        ("scales", torch.rand(groups, OUTPUTS, generator=generator) / 256),
    ):  # fmt: skip
        layer.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    return layer, codes, stored


@pytest.mark.parametrize(("stored_as", "offset"), [("", 1), ("gptq", 1), ("gptq_v2", 0)])
@pytest.mark.parametrize("desc_act", [False, True])
def test_values(stored_as, offset, desc_act):
    group = torch.arange(INPUTS) // GROUP
    if desc_act:
        group = group[torch.randperm(INPUTS, generator=torch.Generator().manual_seed(2))]
    layer, codes, stored = loaded(group)
    scales = layer.scales.double()
    linear = method(checkpoint_format=stored_as, desc_act=desc_act)
    linear.process_weights_after_loading(layer)
    assert not hasattr(layer, "g_idx")
    weight = (codes - stored[group] - offset) * scales[group]
    came = linear.apply(layer, torch.eye(INPUTS))
    torch.testing.assert_close(came.double(), weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("desc_act", [False, True])
def test_other_weights_at_run_time(desc_act, renew):
    """Also with another order of the inputs; where there is none it need not come again."""
    group, new_group = 2 * [torch.arange(INPUTS) // GROUP]
    if desc_act:
        group, new_group = (
            group[torch.randperm(INPUTS, generator=torch.Generator().manual_seed(seed))]
            for seed in (2, 3)
        )
    layer, *_ = loaded(group)
    other, codes, stored = loaded(new_group, seed=1)
    tensors = dict(other.named_parameters())
    if not desc_act:
        del tensors["g_idx"]
    linear = method(desc_act=desc_act)
    linear.process_weights_after_loading(layer)
    renew(layer, tensors)
    weight = (codes - stored[new_group] - 1) * other.scales.double()[new_group]
    came = linear.apply(layer, torch.eye(INPUTS))
    torch.testing.assert_close(came.double(), weight, rtol=1e-4, atol=1e-5)


def test_one_group_of_all_inputs_has_no_order():
    layer, codes, stored = loaded(torch.full((INPUTS,), 7), groups=1)
    scales = layer.scales.double()
    linear = method(group_size=-1, desc_act=True)
    linear.process_weights_after_loading(layer)
    torch.testing.assert_close(
        linear.apply(layer, torch.eye(INPUTS)).double(), (codes - stored - 1) * scales,
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_an_order_that_the_configuration_denies_is_refused():
    layer, *_ = loaded((torch.arange(INPUTS) // GROUP).flip(0))
    with pytest.raises(CheckpointError, match=r"m.q_proj: g_idx .* desc_act to true"):
        method().process_weights_after_loading(layer)


def test_parts_of_a_fused_layer_share_one_order():
    layer = torch.nn.Module()
    linear = method(desc_act=True, pack_factor=4)
    linear.use_v2_format = False
    linear.create_weights(
        layer, INPUTS, [8, 8], INPUTS, 16, torch.float32,
        weight_loader=lambda parameter, loaded, _: parameter.load_merged_column_weight(loaded),
    )  # fmt: skip
    order, load = (torch.arange(INPUTS) // GROUP).int(), layer.g_idx.weight_loader
    load(layer.g_idx, order, 0)
    load(layer.g_idx, order, 1)
    with pytest.raises(CheckpointError, match="different g_idx"):
        load(layer.g_idx, order.flip(0), 1)
    layer.qweight.data.zero_()
    layer.qzeros.data.zero_()
    layer.scales.data.fill_(1)
    linear.process_weights_after_loading(layer)
    form = forms.form_of(layer)
    form.show()
    form.open()
    load(layer.g_idx, order.flip(0), 0)  # of other weights
    load(layer.g_idx, order.flip(0), 1)
    form.hide()
