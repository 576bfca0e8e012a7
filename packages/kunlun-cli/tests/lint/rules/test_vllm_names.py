# SPDX-License-Identifier: Apache-2.0
"""``vllm-names``: against the files of the vLLM that is installed."""

from importlib.util import find_spec

from vllm_kunlun.cli.lint.rules import vllm_names

PLANTED = """\
from vllm.attention import AttentionType
from vllm.model_executor.layers.shared_fused_moe import SharedFusedMoE
from vllm.model_executor.layers.layernorm import RMSNorm, NoNorm
from vllm_kunlun.ops.no_such_module import Layer
"""
MENDED = """\
from vllm.v1.attention.backend import AttentionType
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor import layers
from vllm import LLM
from vllm_kunlun.ops.activation import SiluAndMul

try:
    from vllm.no_more import Something
except ImportError:
    Something = None
"""


def test_what_is_not_there_is_named_with_its_new_place(found):
    # vLLM 0.16 has nothing left in the old place.
    missing = "vllm.attention has no AttentionType"
    if find_spec("vllm.attention") is None:
        missing = "there is no module vllm.attention"
    assert found("vllm-names", PLANTED) == [
        (1, f"{missing}; it is in vllm.v1.attention.backend"),
        (2, "there is no module vllm.model_executor.layers.shared_fused_moe"),
        (3, "vllm.model_executor.layers.layernorm has no NoNorm"),
        (4, "there is no module vllm_kunlun.ops.no_such_module"),
    ]


def test_what_is_there_or_may_be_absent_is_well(found):
    assert found("vllm-names", MENDED) == []


def test_a_name_that_moved_is_followed(mended):
    new = mended("vllm-names", "from vllm.attention import AttentionType  # of encoders\n")
    assert new == "from vllm.v1.attention.backend import AttentionType  # of encoders\n"


def test_the_new_places_have_the_names():
    """By importing, which the rule does not."""
    import importlib

    for old, place in vllm_names._MOVED.items():
        assert hasattr(importlib.import_module(place), old.rpartition(".")[2]), old


def test_modules_of_the_same_wheel_need_not_be_installed(found, tmp_path):
    package = tmp_path / "src" / "vllm_kunlun" / "models" / "planted"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (package / "family.py").write_text("def family(): ...\n")
    text = "from vllm_kunlun.models.planted.family import family, other\n"
    assert found("vllm-names", text, package / "plugin.py") == [
        (1, "vllm_kunlun.models.planted.family has no other")
    ]
    text = "from vllm_kunlun.models.planted.more import family\n"
    assert found("vllm-names", text, tmp_path / "tests" / "test_family.py") == [
        (1, "there is no module vllm_kunlun.models.planted.more")
    ]
