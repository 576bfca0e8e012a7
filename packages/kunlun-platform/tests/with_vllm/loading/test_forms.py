# SPDX-License-Identifier: Apache-2.0
"""A layer that computes with converted parameters is shown as loaders know it, and back."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.platforms.loading.forms import ConvertedForm


class Kind(Parameter):
    """A class of parameters, as vLLM has some."""


class Layer(torch.nn.Module):
    """``words`` and ``order`` become ``codes``, twice as large; ``bias`` stays."""

    def __init__(self, correction: bool = False) -> None:
        super().__init__()
        self.words = Kind(torch.arange(6.0), requires_grad=False)
        self.words.loads = "words"
        self.order = Parameter(torch.tensor([4.0]), requires_grad=False)
        self.bias = Parameter(torch.ones(2), requires_grad=False)
        self.correction = correction
        self.convert(self)

    def convert(self, layer: torch.nn.Module) -> None:
        if not forms.remember(layer, ("words", "order"), self.convert, optional=("order",)):
            return
        codes = torch.cat([layer.words.data, layer.words.data]) + layer.order.data
        del layer.words, layer.order
        layer.register_parameter("codes", Parameter(codes, requires_grad=False))
        extra = Parameter(torch.ones(1)) if self.correction else None
        layer.register_parameter("extra", extra)


@pytest.fixture
def layer():
    return Layer()


def names(layer):
    return {name for name, parameter in layer._parameters.items() if parameter is not None}


def test_shown_as_it_was_without_memory(layer):
    form, codes = forms.form_of(layer), layer.codes
    form.show()
    assert names(layer) == {"words", "order", "bias"}
    assert layer.words.is_meta and layer.words.shape == (6,)
    assert type(layer.words) is Kind and layer.words.loads == "words"
    assert not layer.bias.is_meta
    for _ in range(2):
        form.hide()
        assert names(layer) == {"codes", "bias"}
        assert layer.codes is codes


def test_what_was_written_is_computed_with_where_the_old_lies(layer):
    form, codes, place = forms.form_of(layer), layer.codes, layer.codes.data_ptr()
    form.show()
    form.open()
    assert form.is_untouched
    with form.writes:
        layer.words.data[:3].copy_(torch.full((3,), 7.0))
    assert form.missing == ["words"] and not form.is_untouched
    with form.writes:
        layer.words.data[3:].copy_(torch.full((3,), 8.0))
    assert form.missing == [] and not form.is_full  # the order may still come
    form.close(fixed=True)
    assert layer.words.is_meta, "the memory stays"
    form.hide()
    assert layer.codes is codes and codes.data_ptr() == place
    # The order did not come again, so the first one holds.
    assert codes.tolist() == [11, 11, 11, 12, 12, 12] * 2


def test_what_is_not_closed_leaves_no_trace(layer):
    before = layer.codes.clone()
    form = forms.form_of(layer)
    form.show()
    form.open()
    layer.words.data.fill_(9)
    form.hide()
    assert names(layer) == {"codes", "bias"}
    assert torch.equal(layer.codes, before)


@pytest.mark.parametrize("had", [False, True])
def test_other_parameters_than_the_graphs_know(had):
    layer = Layer(had)
    before, form = layer.codes.clone(), forms.form_of(layer)
    layer.correction = not had
    for fixed in (True, False):
        form.show()
        form.open()
        layer.words.data.zero_()
        if fixed:
            with pytest.raises(UnsupportedError, match=r"extra.*--enforce-eager"):
                form.close(fixed=True)
        else:
            form.close(fixed=False)
        form.hide()
        assert torch.equal(layer.codes, before) == fixed
        assert (layer.extra is None) == (had != fixed)


def test_remembered_once(layer):
    first = forms.form_of(layer)
    assert isinstance(first, ConvertedForm)
    assert not forms.remember(layer, ("codes",), layer.convert)
    assert forms.form_of(layer) is first


def test_converting_twice_changes_nothing(layer):
    """As by vLLM's function for all layers, which some loops call again."""
    codes = layer.codes
    layer.convert(layer)
    assert layer.codes is codes


def test_a_lost_layer_says_what_to_do(layer):
    forms.lose(layer, "model.o_proj")
    with pytest.raises(UnsupportedError, match=r"^model\.o_proj.* Start the server anew"):
        forms.form_of(layer).show()


def test_a_layer_that_was_not_converted_has_no_form():
    assert forms.form_of(torch.nn.Linear(2, 2)) is None
