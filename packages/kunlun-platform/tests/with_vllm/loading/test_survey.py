# SPDX-License-Identifier: Apache-2.0
"""All that is wrong with a checkpoint at once; whole models are in tests/user/test_weights.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from vllm.config import LoadConfig

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import loader, survey


class Model(torch.nn.Module):
    """Copies what has the name of a parameter; ``b`` is also called ``c``."""

    def __init__(self):
        super().__init__()
        with torch.device("meta"):
            self.a = torch.nn.Parameter(torch.empty(5, 5), requires_grad=False)
            self.b = torch.nn.Parameter(torch.empty(5, 5), requires_grad=False)
        self.c = self.b

    def load_weights(self, weights):
        parameters = dict(self.named_parameters())
        for name, tensor in weights:
            if name == "numbers":
                tensor.sum().item()
            if name == "refused":
                raise UnsupportedError("not on this device")
            parameter = parameters[name]
            assert parameter.shape == tensor.shape, "another size"
            parameter.data.copy_(tensor)
        return set()


@pytest.fixture
def look(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "get_tensor_model_parallel_world_size", lambda: 1)

    def run(**state):
        save_file(
            {name: each.clone() for name, each in state.items()}, tmp_path / "model.safetensors"
        )
        surveyor = survey._Surveyor(LoadConfig(use_tqdm_on_load=False))
        return surveyor.run(Model(), SimpleNamespace(model=str(tmp_path), revision=None))

    return run


WHOLE = torch.ones(5, 5)


def test_a_whole_checkpoint_has_no_fault(look):
    found = look(a=WHOLE, b=WHOLE)
    assert (found.missing, found.faults, found.unread) == ([], [], None)
    assert found.parameters == dict.fromkeys("ab", ((5, 5), torch.float32))
    assert found.tied == {"c": "b"}
    assert {name: [*target.sources] for name, target in found.writes.targets.items()} == {
        "a": ["a"],
        "b": ["b"],
    }


def test_each_fault_is_named_and_the_rest_looked_at(look):
    found = look(x=WHOLE, y=WHOLE, a=torch.ones(6, 5), b=WHOLE.to(torch.int8))
    assert {(each.source.name, each.kind) for each in found.faults} == {
        ("x", "unexpected"),
        ("y", "unexpected"),
        ("a", "shape"),
        ("b", "dtype"),
    }
    assert found.missing == ["a"]
    assert {each.source.file for each in found.faults} == {"model.safetensors"}
    (shape,) = (each for each in found.faults if each.kind == "shape")
    assert shape.detail == "the parameter has shape [5, 5]"


def test_the_numbers_that_a_class_wants_are_not_read(look):
    found = look(a=WHOLE, b=WHOLE, numbers=WHOLE)
    assert "looks at the numbers" in found.unread
    assert found.faults == []


def test_after_many_faults_it_stops(look, monkeypatch):
    monkeypatch.setattr(survey, "_ROUNDS", 2)
    found = look(x=WHOLE, y=WHOLE, z=WHOLE)
    assert len(found.faults) == 2
    assert "first 2" in found.unread


def test_what_the_platform_refuses_is_no_fault_of_a_tensor(look):
    with pytest.raises(UnsupportedError, match="not on this device"):
        look(a=WHOLE, refused=WHOLE)
