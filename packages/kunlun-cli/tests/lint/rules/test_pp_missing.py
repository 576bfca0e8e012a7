# SPDX-License-Identifier: Apache-2.0
"""``pp-missing``: a head on every stage."""

PLANTED = """\
class Model(nn.Module):
    def __init__(self):
        self.layers = make_layers(2, Block, "layers")


class ForCausalLM(nn.Module, SupportsPP):
    def __init__(self):
        self.lm_head = ParallelLMHead(8, 8)
"""


def test_it_is_found_and_one_on_the_last_stage_is_well(found):
    assert found("pp-missing", PLANTED) == [
        (8, "every stage makes the head, and only the last one uses it")
    ]
    last = "if get_pp_group().is_last_rank:\n            self.lm_head"
    assert found("pp-missing", PLANTED.replace("self.lm_head", last)) == []


def test_a_model_that_is_not_divided_is_well(found):
    assert found("pp-missing", PLANTED.replace(", SupportsPP", "")) == []
