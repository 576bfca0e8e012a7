# SPDX-License-Identifier: Apache-2.0
"""``stacked-params``: names of modules that are not there, and parts that nothing fills."""

import pytest

LAYERS = """\
from vllm.model_executor.layers.linear import MergedColumnParallelLinear, QKVParallelLinear


class Block(nn.Module):
    def __init__(self, prefix):
        self.qkv_proj = QKVParallelLinear(8, prefix=prefix)
        self.gate_up_proj = MergedColumnParallelLinear(8, [16] * 2, prefix=prefix)

    def load_weights(self, weights):
        stacked_params_mapping = [
            {rows}
        ]
"""
GOOD = """("qkv_proj", "q_proj", "q"), ("qkv_proj", "k_proj", "k"), ("qkv_proj", "v_proj", "v"),
            ("gate_up_proj", "gate_proj", 0), ("gate_up_proj", "up_proj", 1)"""
OTHER_NAMES = """,
            (".gate_up_proj", ".w1", 0), (".gate_up_proj", ".w3", 1)"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('("gate_up_proj", "up_proj", 1)', '("gate_up_proj", "up_proj", 0)',
         "nothing fills part 1 of gate_up_proj"),
        ('"qkv_proj"', '"attention_in"', "there is no module attention_in, but qkv_proj"),
        ('"v_proj", "v")', '"v_proj", "k")', "nothing fills part v of qkv_proj"),
        ('"v_proj", "v")', '"v_proj", 2)', "qkv_proj is a QKVParallelLinear, which has no part 2"),
        ('("gate_up_proj", "gate_proj", 0)', '("gateup_proj", "gate_proj", 0)',
         "there is no module gateup_proj, but gate_up_proj"),
    ],
)  # fmt: skip
def test_a_planted_row_is_found(found, old, new, message):
    assert old in GOOD
    content = LAYERS.replace("{rows}", GOOD.replace(old, new))
    assert message in [said for _, said in found("stacked-params", content)]


def test_rows_that_fit_are_well(found):
    assert found("stacked-params", LAYERS.replace("{rows}", GOOD)) == []
    assert found("stacked-params", LAYERS.replace("{rows}", GOOD + OTHER_NAMES)) == []


def test_the_table_of_packed_modules_is_held_against_the_attributes_too(found):
    content = LAYERS.replace("{rows}", GOOD) + (
        '    packed_modules_mapping = {"qkv_prj": ["q_proj", "k_proj", "v_proj"]}\n'
    )
    assert [said for _, said in found("stacked-params", content)] == [
        "there is no module qkv_prj, but qkv_proj"
    ]


def test_attributes_of_a_model_that_is_imported_count(found):
    content = """\
    from vllm.model_executor.models.llama import LlamaAttention

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "qvk_proj": []}
    """
    assert [said for _, said in found("stacked-params", content)] == [
        "there is no module qvk_proj, but qkv_proj"
    ]
