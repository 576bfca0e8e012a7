# SPDX-License-Identifier: Apache-2.0
"""``load-weights``: a model without it, and one that does not say what it loaded."""

PLANTED = """\
class MyForCausalLM(nn.Module, SupportsPP):
    def forward(self, x):
        return x


class OtherForCausalLM(nn.Module):
    def forward(self, x):
        return x

    def load_weights(self, weights):
        AutoWeightsLoader(self).load_weights(weights)
"""
MENDED = """\
class MyForCausalLM(LlamaForCausalLM):
    def forward(self, x):
        return x


class OtherForCausalLM(nn.Module):
    def forward(self, x):
        return x

    def load_weights(self, weights):
        return AutoWeightsLoader(self).load_weights(weights)


class Loader:
    def load_weights(self, model):
        self.read(model)
"""


def test_both_are_found(found):
    assert found("load-weights", PLANTED) == [
        (1, "MyForCausalLM has no load_weights"),
        (10, "load_weights of OtherForCausalLM returns nothing"),
    ]


def test_one_that_inherits_it_and_what_is_no_model_are_well(found):
    assert found("load-weights", MENDED) == []
