# SPDX-License-Identifier: Apache-2.0
"""``lazy-registration``: classes, texts of another form, and classes that are not there."""

import pytest

START = """\
from vllm import ModelRegistry
from mine.model import Model

"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Model", "Model is a class, not the text module:Class"),
        ('"mine.model.Model"', "'mine.model.Model' is not of the form module:Class"),
        ('"mine.model:Modle"', "mine.model has no class Modle"),
    ],
)
def test_a_planted_one_is_found(found, tmp_path, model, message):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.py").write_text("class Model: ...\n")
    content = f'{START}ModelRegistry.register_model("MineForCausalLM", {model})\n'
    assert found("lazy-registration", content) == [(4, message)]


@pytest.mark.parametrize("model", ['"mine.model:Model"', "None", '"of.another.wheel:Model"'])
def test_a_text_that_leads_to_a_class_is_well(found, tmp_path, model):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.py").write_text("class Model: ...\n")
    content = f'{START}ModelFamily(architectures={{"MineForCausalLM": {model}}})\n'
    assert found("lazy-registration", content) == []
