# SPDX-License-Identifier: Apache-2.0
"""Which case a configuration is, and what its wheel is written of."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.adapt import adapting
from vllm_kunlun.cli.adapt.adapting import from_model
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.families import ModelFamily, ServingPreset


def quiet(text):
    pass


def test_vllm_has_it(checkpoint):
    found = from_model(str(checkpoint("granite", "GraniteForCausalLM")), None, quiet)
    assert (found.case, found.todo, found.wheel.text) == ("A", [], "")
    assert found.wheel.config["architectures"] == ["GraniteForCausalLM"]
    assert found.wheel.config["hidden_size"] == 128
    assert not found.wheel.experts


def test_vllm_has_it_and_it_has_experts(checkpoint):
    found = from_model(str(checkpoint("mixtral", "MixtralForCausalLM")), None, quiet)
    assert found.wheel.experts
    assert found.wheel.config["num_local_experts"] == 8


def test_only_transformers_has_it(checkpoint):
    found = from_model(str(checkpoint("helium", "HeliumForCausalLM")), "mine", quiet)
    assert (found.case, found.todo) == ("B", [])
    assert (found.wheel.name, found.wheel.file, found.wheel.model) == (
        "mine", "mine.py", "HeliumForCausalLM",
    )  # fmt: skip


def test_a_family_serves_it(checkpoint, monkeypatch):
    family = ModelFamily(
        name="planted", distribution="kunlun-models-planted", status="untested",
        architectures={"ArceeForCausalLM": None}, preset=ServingPreset(),
    )  # fmt: skip
    monkeypatch.setattr(adapting, "family_for", lambda architecture: family)
    with pytest.raises(UnsupportedError, match=r"of the family planted .* nothing to adapt"):
        from_model(str(checkpoint("granite", "GraniteForCausalLM")), None, quiet)


def test_nothing_has_its_class(checkpoint):
    with pytest.raises(UnsupportedError, match="neither vLLM nor transformers"):
        from_model(str(checkpoint("helium", "UnheardOfForCausalLM")), None, quiet)
