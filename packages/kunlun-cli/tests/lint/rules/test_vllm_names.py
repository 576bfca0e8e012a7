# SPDX-License-Identifier: Apache-2.0
"""``vllm-names``: against the files of the vLLM that is installed."""

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
    assert found("vllm-names", PLANTED) == [
        (1, "vllm.attention has no AttentionType; it is in vllm.v1.attention.backend"),
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
