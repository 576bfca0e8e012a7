# SPDX-License-Identifier: Apache-2.0
"""A model's own ``load_weights`` is run without numbers first, and leaves no trace."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from vllm.config import LoadConfig
from vllm.model_executor.model_loader import get_model_loader

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.loading import loader


class Model(torch.nn.Module):
    """Loads ``a`` by copying; looks at numbers, or replaces data, when told."""

    def __init__(self, way="copy"):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(5, 5), requires_grad=False)
        self.way = way

    def load_weights(self, weights):
        for name, tensor in weights:
            parameter = dict(self.named_parameters())[name]
            assert parameter.shape == tensor.shape
            if self.way == "numbers":
                tensor.sum().item()
            if self.way == "data":
                parameter.data = tensor
            elif self.way == "module":
                self.a = torch.nn.Parameter(tensor, requires_grad=False)
            else:
                parameter.data.copy_(tensor)
        return {"a"}


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "get_tensor_model_parallel_world_size", lambda: 1)
    loader.register()

    def run(model, **state):
        save_file(state, tmp_path / "model.safetensors")
        found = get_model_loader(LoadConfig(use_tqdm_on_load=False))
        config = SimpleNamespace(model=str(tmp_path), revision=None, quantization=None)
        found.load_weights(model, config)
        return model

    return run


@pytest.mark.parametrize("way", ["copy", "numbers", "data", "module"])
def test_the_numbers_arrive(way, load):
    assert load(Model(way), a=torch.ones(5, 5)).a.all()


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
