# SPDX-License-Identifier: Apache-2.0
"""``prefix``: layers of vLLM and of the file, by name or by place."""

import inspect

import pytest

from vllm_kunlun.cli.lint.rules import prefix
from vllm_kunlun.platforms import version

EXPERTS = ("FusedMoE", "FusedMoEFactory", "SharedFusedMoE")
EXPERTS_HERE = (
    ("FusedMoEFactory",) if version.lies_in(version.V0_33) else ("FusedMoE", "SharedFusedMoE")
)

PLANTED = """\
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear


class Block(nn.Module):
    def __init__(self, config, prefix=""):
        self.o_proj = RowParallelLinear(config.hidden, config.hidden, bias=False)
        self.qkv_proj = QKVParallelLinear(
            config.hidden,
            config.head_dim,  # of each
            bias=False,
        )


class Model(nn.Module):
    def __init__(self, *, vllm_config, prefix=""):
        self.block = Block(vllm_config.model_config.hf_config)
"""
MENDED = """\
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear


class Block(nn.Module):
    def __init__(self, config, prefix=""):
        self.o_proj = RowParallelLinear(config.hidden, config.hidden, bias=False, prefix=f"{prefix}.o_proj")
        self.qkv_proj = QKVParallelLinear(
            config.hidden,
            config.head_dim,  # of each
            bias=False,
            prefix=f"{prefix}.qkv_proj",
        )


class Model(nn.Module):
    def __init__(self, *, vllm_config, prefix=""):
        self.block = Block(vllm_config.model_config.hf_config)
"""  # noqa: E501
BY_PLACE = """\
from vllm.attention.layer import Attention as VllmAttention


class Block(nn.Module):
    def __init__(self, config, prefix=""):
        pass


class Attention(nn.Module):
    def __init__(self, heads):
        pass


class Model(nn.Module):
    def __init__(self, *, vllm_config, prefix=""):
        self.block = Block(vllm_config, maybe_prefix(prefix, "block"))
        self.own = Attention(4)
        self.rest = Block(*arguments)

    def forward(self):
        return Block(self.config)
"""


def test_each_layer_without_one_is_found(found):
    assert found("prefix", PLANTED) == [
        (6, "RowParallelLinear is made without its prefix"),
        (7, "QKVParallelLinear is made without its prefix"),
        (16, "Block is made without its prefix"),
    ]


def test_one_that_is_given_by_its_place_or_not_taken_is_well(found):
    assert found("prefix", BY_PLACE) == []


def test_it_is_named_after_the_attribute_where_the_class_knows_its_own(mended):
    """In the outermost class the prefix may be empty, so there a person decides."""
    assert mended("prefix", PLANTED) == MENDED


@pytest.mark.parametrize("name", sorted(prefix.LAYERS))
def test_the_table_is_vllms(name):
    """A layer that is renamed, or takes no prefix any more, is noticed here."""
    from vllm.model_executor.layers import fused_moe, linear, mla, vocab_parallel_embedding
    from vllm.model_executor.layers.attention import (
        chunked_local_attention,
        cross_attention,
        encoder_only_attention,
    )

    from vllm_kunlun.platforms.vllm_compat import attention_layer as attention

    homes = (attention, fused_moe, linear, mla, vocab_parallel_embedding,
             chunked_local_attention, cross_attention, encoder_only_attention)  # fmt: skip
    if name in EXPERTS:
        assert hasattr(fused_moe, name) is (name in EXPERTS_HERE)
        if name not in EXPERTS_HERE:
            return
    found = next(getattr(home, name) for home in homes if hasattr(home, name))
    made = found.__init__ if inspect.isclass(found) else found
    places = list(inspect.signature(made).parameters)
    if prefix.LAYERS[name] == 99:
        assert {"prefix", "kwargs"} & set(places)
    else:
        assert places.index("prefix") - 1 == prefix.LAYERS[name]
