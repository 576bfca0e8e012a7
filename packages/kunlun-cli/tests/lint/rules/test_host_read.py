# SPDX-License-Identifier: Apache-2.0
"""``host-read``: in what a forward goes through, and nowhere else."""

import pytest

START = """\
@support_torch_compile
class Model(nn.Module):
    def __init__(self):
        self.scale = self.first.tolist()

    def forward(self, x):
        return self._inner(x)

    def _inner(self, x):
        return {value}

    def load_weights(self, weights):
        return weights[0].item()
"""


@pytest.mark.parametrize("value", ["x.sum().item()", "x.cpu()", "x.tolist()", "x.numpy()"])
def test_a_read_in_a_step_is_found(found, value):
    assert found("host-read", START.replace("{value}", value)) == [(10, f"{value} in Model._inner")]


def test_a_read_outside_of_a_step_is_well(found):
    assert found("host-read", START.replace("{value}", "x.item(1) + x.sum()")) == []


def test_an_encoder_of_pictures_may_count_them(found):
    vision = START.replace("class Model", "class VisionTower")
    assert found("host-read", vision.replace("{value}", "grid.tolist()")) == []
