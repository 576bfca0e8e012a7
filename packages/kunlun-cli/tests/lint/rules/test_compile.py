# SPDX-License-Identifier: Apache-2.0
"""``compile``: the class that goes through the layers, or one that is made of it."""

PLANTED = """\
from vllm.model_executor.models.utils import make_layers


class MyModel(nn.Module):
    def __init__(self, *, vllm_config, prefix=""):
        _, _, self.layers = make_layers(2, lambda prefix: Block(prefix), prefix)

    def forward(self, x):
        return x
"""
MENDED = PLANTED.replace(
    "\n\n\nclass My",
    "\nfrom vllm.compilation.decorators import support_torch_compile\n\n\n"
    "@support_torch_compile\nclass My",
)
AROUND = (
    PLANTED
    + """\


@support_torch_compile(dynamic_arg_dims={})
class Outer(nn.Module):
    def __init__(self):
        self.decoder = MyModel(vllm_config=None)

    def forward(self, x):
        return self.decoder(x)
"""
)


def test_it_is_found_and_mended(found, mended):
    assert found("compile", PLANTED) == [(4, "MyModel has no @support_torch_compile")]
    assert mended("compile", PLANTED) == MENDED
    assert found("compile", MENDED) == []


def test_one_inside_a_class_that_is_compiled_is_well(found):
    assert found("compile", AROUND) == []
