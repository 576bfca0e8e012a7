# SPDX-License-Identifier: Apache-2.0
"""A model that serves is given other weights, in whole and in part."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.loading import forms, renewal


def load_half(parameter, loaded, half):
    parameter.data[3 * half : 3 * half + 3].copy_(loaded)


class Converted(torch.nn.Module):
    """Computes with the negative of ``words``, which the checkpoint has in two halves."""

    def __init__(self):
        super().__init__()
        self.words = Parameter(torch.zeros(6), requires_grad=False)
        self.words.weight_loader = load_half
        self.order = Parameter(torch.zeros(2), requires_grad=False)
        self.calls = 0
        self.convert(self)

    def convert(self, layer):
        if not forms.remember(layer, ("words", "order"), self.convert, shared=("order",)):
            return
        negative = -layer.words.data
        del layer.words, layer.order
        layer.register_parameter("negative", Parameter(negative, requires_grad=False))
        self.calls += 1


class Packed(forms.Form):
    partial = True

    def __init__(self, layer):
        self.layer, self.kept = layer, layer.weight.data.clone()
        self.parameters = {"weight": forms.blank(layer.weight, "meta")}
        layer._parameters.update(self.parameters)
        layer.checkpoint_form, self.is_open, self.closed = self, False, 0

    def show(self):
        pass

    def open(self):
        self.is_open = True
        weight = forms.filled(self.parameters["weight"], self.kept)
        self.layer._parameters["weight"] = weight

    def close(self, *, fixed):
        self.is_open, self.closed = False, self.closed + 1
        self.layer._parameters.update(self.parameters)

    def hide(self):
        if self.is_open:
            self.close(fixed=False)


class Model(torch.nn.Module):
    def __init__(self, by_itself=False):
        super().__init__()
        self.converted = Converted()
        self.linear = torch.nn.Linear(2, 3, bias=False)
        self.linear.weight.requires_grad_(False).zero_()
        self.norm = Parameter(torch.zeros(4), requires_grad=False)
        self.packed = Packed(self.linear)
        self.by_itself = by_itself

    def load_weights(self, weights):
        parameters, loaded = dict(self.named_parameters()), set()
        for name, tensor in weights:
            target, _, half = name.partition("#")
            parameter = parameters[target]
            loader = getattr(parameter, "weight_loader", None)
            if loader is None or (self.by_itself and target == "linear.weight"):
                parameter.data.copy_(tensor)
            elif half:
                loader(parameter, tensor, int(half))
            else:
                loader(parameter, tensor)
            loaded.add(target)
        return loaded


@pytest.fixture
def model():
    made = Model()
    renewal.install(made, torch.float32, fixed=True)
    return made


def halves(value=1.0):
    words = [(f"converted.words#{half}", torch.full((3,), value + half)) for half in (0, 1)]
    return [words[0], ("converted.order", torch.zeros(2)), words[1]]


def test_all_weights(model):
    negative, norm = model.converted.negative, model.norm
    weights = [*halves(), ("linear.weight", torch.ones(3, 2)), ("norm", torch.ones(4))]
    names = {"converted.words", "converted.order", "linear.weight", "norm"}
    assert model.load_weights(iter(weights)) == names
    assert model.converted.negative is negative and model.norm is norm
    assert negative.tolist() == [-1, -1, -1, -2, -2, -2]
    assert model.packed.kept.eq(1).all() and norm.eq(1).all()
    assert model.linear.weight.is_meta
    assert not hasattr(model.linear.weight, "weight_loader"), "the loader of one call stays"


def test_only_what_is_touched_is_renewed(model):
    model.load_weights([("norm", torch.ones(4))])
    assert (model.converted.calls, model.packed.closed) == (1, 0)
    model.load_weights([("linear.weight", torch.ones(3, 2))])
    assert (model.converted.calls, model.packed.closed) == (1, 1)
    model.load_weights(halves())
    assert (model.converted.calls, model.packed.closed) == (2, 1)


def test_a_layer_is_converted_when_its_last_tensor_comes(model):
    """The next layer would be opened beside it, and take memory, too."""

    def weights():
        yield from halves()
        assert model.converted.calls == 2
        yield "norm", torch.ones(4)

    model.load_weights(weights())


def test_what_two_tensors_share_may_come_twice(model):
    model.load_weights([*halves(), ("converted.order", torch.zeros(2))])
    assert model.converted.calls == 2


def test_a_part_of_a_converted_layer_is_refused_by_name(model):
    before = model.converted.negative.clone()
    with pytest.raises(CheckpointError, match=r"^converted keeps its weights.*converted\.words"):
        model.load_weights([halves()[0], ("norm", torch.ones(4))])
    assert torch.equal(model.converted.negative, before) and model.norm.eq(1).all()
    model.load_weights(halves())
    assert model.converted.negative[0] == -1


def test_numbers_of_another_kind_are_refused(model):
    wrong = [(name, tensor.to(torch.int32)) for name, tensor in halves()]
    with pytest.raises(CheckpointError, match=r"^converted: .*int32.*Other layers may"):
        model.load_weights(wrong)
    assert not model.converted.negative.any()


def test_an_error_leaves_the_model_able_to_serve(model):
    negative = model.converted.negative
    weights = [halves()[0], ("linear.weight", torch.ones(3, 2)), ("unknown", torch.ones(1))]
    with pytest.raises(KeyError, match="unknown"):
        model.load_weights(weights)
    assert model.converted.negative is negative and not negative.any()
    assert model.packed.closed == 1, "the packed form is not that of the weight"


def test_a_model_that_writes_itself_is_noticed():
    model = Model(by_itself=True)
    renewal.install(model, torch.float32, fixed=True)
    with pytest.raises(UnsupportedError, match=r"^linear\.weight was loaded in a way"):
        model.load_weights([("linear.weight", torch.ones(3, 2))])


def test_shown_to_a_look(model):
    with renewal.renewal_of(model).as_loaded():
        assert {name for name, _ in model.named_parameters()} == {
            "converted.words",
            "converted.order",
            "linear.weight",
            "norm",
        }
    assert {name for name, _ in model.named_parameters()} >= {"converted.negative"}


def test_plain_parameters_to_save():
    model = torch.nn.ModuleDict({"linear": torch.nn.Linear(2, 3, bias=False)})
    form = Packed(model["linear"])
    with renewal.plain(model):
        assert not model["linear"].weight.is_meta
    assert model["linear"].weight.is_meta and form.closed == 1


def test_converted_weights_are_not_saved(model):
    with (
        pytest.raises(UnsupportedError, match=r"^converted: .*Keep the checkpoint"),
        renewal.plain(model),
    ):
        pass


def test_scales_that_vllm_has_renamed_are_not_saved(monkeypatch):
    monkeypatch.setattr(renewal, "Attention", torch.nn.Linear)
    model = torch.nn.ModuleDict({"attn": torch.nn.Linear(2, 2)})
    with renewal.plain(model):
        pass
    model["attn"]._k_scale = Parameter(torch.ones(1))
    refused = pytest.raises(UnsupportedError, match=r"^attn: .*Keep the checkpoint")
    with refused, renewal.plain(model):
        pass


def test_only_a_model_that_serves_has_a_renewal(model):
    assert renewal.renewal_of(model).model is model
    assert renewal.renewal_of(Model()) is None
