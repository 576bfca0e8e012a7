# SPDX-License-Identifier: Apache-2.0
"""A vLLM model file: what the manual would replace in it, and what is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm_kunlun.cli.adapt.vllm_file import absolute, from_file, manual
from vllm_kunlun.platforms.errors import UnsupportedError

FILE = """\
# A comment that stays.
from vllm.attention.layer import Attention
from vllm.model_executor.layers.activation import (
    SiluAndMul,  # the gate
)
from vllm.model_executor.layers.layernorm import RMSNorm

from .interfaces import SupportsPP
from .llama import LlamaForCausalLM
from ..layers import   logits_processor


class PlantedForCausalLM(LlamaForCausalLM, SupportsPP):
    \"\"\"Llama,   as it is.\"\"\"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text(FILE)
    return path


def test_the_manual_s_imports_are_named_and_stay(file):
    assert manual(FILE) == [(2, "Attention"), (3, "SiluAndMul")]
    found = from_file(file, None, None)
    assert found.said[0].startswith("line 2: Attention stays as it is")
    homes = "vllm.attention.layer", "vllm_kunlun.ops.attention.layer"  # of vLLM 0.15, of any
    assert any(f"from {home} import Attention\n" in found.wheel.text for home in homes)
    assert "    SiluAndMul,  # the gate\n" in found.wheel.text


def test_relative_imports_are_written_in_full_and_the_rest_is_kept():
    text, count = absolute(FILE)
    assert count == 3
    changed = {
        (old, new)
        for old, new in zip(FILE.splitlines(), text.splitlines(), strict=True)
        if old != new
    }
    models = "vllm.model_executor.models"
    assert {new for _, new in changed} == {
        f"from {models}.interfaces import SupportsPP",
        f"from {models}.llama import LlamaForCausalLM",
        "from vllm.model_executor.layers import   logits_processor",
    }


def test_what_lint_finds_is_left_to_do(file):
    file.write_text(FILE.replace("vllm.attention.layer", "flash_attn"))
    found = from_file(file, "mine", None)
    assert any("(attention)" in each for each in found.todo)
    assert found.wheel.name == "mine"


def test_every_name_of_the_table_is_one_that_the_platform_decides():
    """By the registry of layers, and by the platform for attention."""
    from vllm.model_executor.custom_op import op_registry_oot

    from vllm_kunlun.cli.adapt.vllm_file import _MANUAL
    from vllm_kunlun.ops.layers.registry import register_layers

    register_layers()
    behind = {"FusedMoE": "UnquantizedFusedMoEMethod", "get_rope": "RotaryEmbedding"}
    layers = {behind.get(name, name) for name in _MANUAL}
    assert layers - {*op_registry_oot} == {"Attention"}


@pytest.mark.parametrize(
    ("text", "asked", "said"),
    [
        ("class X(:", None, "is not Python"),
        ("class Layer: ...", None, "no class whose name says ForCausalLM"),
        (FILE, "OtherForCausalLM", "has PlantedForCausalLM"),
    ],
)
def test_a_file_without_the_model_is_refused(file, text, asked, said):
    file.write_text(text)
    with pytest.raises(UnsupportedError, match=said):
        from_file(file, None, asked)


def test_a_file_that_is_not_there():
    with pytest.raises(UnsupportedError, match="is not there"):
        from_file(Path("nowhere.py"), None, None)
