# SPDX-License-Identifier: Apache-2.0
"""``x127``: at each step, or twice."""

PLANTED = """\
class Scheme:
    def create_weights(self, layer):
        layer.weight_scale.data *= 127.0

    def process_weights_after_loading(self, layer):
        layer.weight_scale.data.mul_(127)
        layer.weight_scale.data = layer.weight_scale.data * 127

    def apply(self, layer, x):
        return matmul(x, layer.weight, layer.weight_scale * 127)
"""
MENDED = """\
class Scheme:
    def process_weights_after_loading(self, layer):
        if self.static:
            layer.weight_scale = Parameter(layer.weight_scale * 127.0)
        else:
            layer.weight_scale = Parameter(127 * layer.weight_scale)

    def apply(self, layer, x):
        return (x * 127).round() * layer.weight_scale
"""


def test_each_is_found(found):
    assert found("x127", PLANTED) == [
        (6, "layer.weight_scale.data is multiplied by 127 twice, also in create_weights"),
        (7, "layer.weight_scale.data is multiplied by 127 twice, also in "
            "process_weights_after_loading"),
        (10, "layer.weight_scale is multiplied by 127 in apply, at each step"),
    ]  # fmt: skip


def test_once_as_weights_are_loaded_is_well(found):
    assert found("x127", MENDED) == []
