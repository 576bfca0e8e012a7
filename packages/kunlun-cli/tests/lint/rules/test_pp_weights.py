# SPDX-License-Identifier: Apache-2.0
"""``pp-weights``: a loop that takes every layer to be here."""

PLANTED = """\
class Model(nn.Module):
    def __init__(self):
        self.layers = make_layers(2, Block, "layers")

    def load_weights(self, weights):
        params_dict = dict(self.named_parameters())
        for name, weight in weights:
            {ask}params_dict[name].weight_loader(params_dict[name], weight)
"""


def test_it_is_found_and_with_the_question_well(found):
    message = "a weight of another stage's layer is looked up"
    assert found("pp-weights", PLANTED.replace("{ask}", "")) == [(5, message)]
    ask = "if is_pp_missing_parameter(name, self):\n                continue\n            "
    assert found("pp-weights", PLANTED.replace("{ask}", ask)) == []
