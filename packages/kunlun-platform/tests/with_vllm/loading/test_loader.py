# SPDX-License-Identifier: Apache-2.0
"""A model's own ``load_weights`` is run without numbers first, and leaves no trace."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from vllm.config import LoadConfig, VllmConfig, set_current_vllm_config
from vllm.lora.layers import BaseLayerWithLoRA
from vllm.model_executor.model_loader import get_model_loader

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.loading import loader, renewal


class Model(torch.nn.Module):
    """Loads ``a`` by copying; looks at numbers, or replaces data, when told."""

    def __init__(self, way="copy", loaded=("a",)):
        super().__init__()
        self.loaded = set(loaded)
        self.a = torch.nn.Parameter(torch.zeros(5, 5), requires_grad=False)
        self.way = way

    def load_weights(self, weights):
        for name, tensor in weights:
            parameter = dict(self.named_parameters())[name]
            assert parameter.shape == tensor.shape
            if self.way == "numbers":
                tensor.sum().item()
            if self.way == "wrapped":
                _wrapped(tensor)
            if self.way == "data":
                parameter.data = tensor
            elif self.way == "module":
                self.a = torch.nn.Parameter(tensor, requires_grad=False)
            else:
                parameter.data.copy_(tensor)
        return self.loaded


def _wrapped(tensor):
    """As a layer does that names itself."""
    try:
        tensor.sum().item()
    except RuntimeError as error:
        raise CheckpointError("layer: does not fit") from error


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "get_tensor_model_parallel_world_size", lambda: 1)
    loader.register()

    def run(model, quantization=None, **state):
        save_file(state, tmp_path / "model.safetensors")
        found = get_model_loader(LoadConfig(use_tqdm_on_load=False))
        config = SimpleNamespace(
            model=str(tmp_path),
            revision=None,
            quantization=quantization,
            is_moe=False,
            multimodal_config=None,
        )
        with set_current_vllm_config(VllmConfig()):
            found.load_weights(model, config)
        return model

    return run


@pytest.mark.parametrize("way", ["copy", "numbers", "wrapped", "data", "module"])
@pytest.mark.parametrize("loaded", ["a", ""], ids=["said", "not-said"])
def test_the_numbers_arrive(way, loaded, load):
    # Of a quantised model vLLM does not ask what it has loaded.
    quantization = None if loaded else "awq"
    assert load(Model(way, loaded), quantization, a=torch.ones(5, 5)).a.all()


def test_the_setting_leaves_it_to_vllm(load, monkeypatch):
    state = {"a": torch.ones(5, 5, dtype=torch.int8)}
    with pytest.raises(CheckpointError, match=r"is int8.* set VLLM_KUNLUN_CHECK_WEIGHTS=0\.$"):
        load(Model(), **state)
    monkeypatch.setenv("VLLM_KUNLUN_CHECK_WEIGHTS", "0")
    assert load(Model(), **state).a.all()


def test_a_model_that_serves_is_judged_before_it_is_changed(load):
    model = load(Model(loaded=""), "awq", a=torch.ones(5, 5))
    renewal.install(model, torch.float32, fixed=False)
    assert load(model, "awq", a=torch.full((5, 5), 2.0)).a.eq(2).all()
    with pytest.raises(CheckpointError, match=r"^a in .*, float32 of shape \[5, 6\], does not"):
        load(model, a=torch.ones(5, 6))
    with pytest.raises(CheckpointError, match=r"does not fill 1 of .*missing: a\."):
        load(model, "awq", **{})
    assert model.a.eq(2).all()


def test_a_model_with_adapters_is_not_reloaded(load):
    model = load(Model(), a=torch.ones(5, 5))
    renewal.install(model, torch.float32, fixed=False)
    model.adapted = BaseLayerWithLoRA()
    with pytest.raises(UnsupportedError, match="without --enable-lora"):
        load(model, a=torch.ones(5, 5))


def test_experts_that_other_ranks_hold_are_not_cut_off(monkeypatch):
    class Experts(torch.nn.Module):
        def __init__(self, ep_size, tp_size=1):
            super().__init__()
            parallel = SimpleNamespace(ep_size=ep_size, tp_size=tp_size)
            self.moe_config = SimpleNamespace(moe_parallel_config=parallel)
            self.w2 = torch.nn.Parameter(torch.zeros(2))

    monkeypatch.setattr(loader, "ExpertLayer", Experts)
    monkeypatch.setattr(loader, "get_tensor_model_parallel_world_size", lambda: 1)
    for divided in ((2,), (1, 2)):
        model = torch.nn.ModuleDict({"experts": Experts(*divided), "norm": torch.nn.RMSNorm(3)})
        assert loader._ranks(model) == {"norm.weight": 1}
    assert set(loader._ranks(Experts(1))) == {"w2"}


def test_every_format_of_the_default_loader():
    loader.register()
    for name in loader.FORMATS:
        assert type(get_model_loader(LoadConfig(load_format=name))) is loader.KunlunModelLoader


@pytest.mark.parametrize("way", ["copy", "numbers"])
def test_the_tensor_is_named(way, load):
    model = Model(way)
    with pytest.raises(CheckpointError, match=r"^a in .*, float32 of shape \[5, 6\], does not"):
        load(model, a=torch.ones(5, 6))
    with pytest.raises(CheckpointError, match=r"^b in .* the model has no parameter 'b'\."):
        load(model, b=torch.ones(5, 5))
    assert not model.a.any()
