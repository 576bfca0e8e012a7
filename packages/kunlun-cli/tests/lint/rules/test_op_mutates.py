# SPDX-License-Identifier: Apache-2.0
"""``op-mutates``: writes to an argument that are not declared."""

import pytest

START = """\
from vllm.utils.torch_utils import direct_register_custom_op


def op(x: Tensor, out: Tensor, n: int) -> None:
    {body}


direct_register_custom_op("op", op, mutates_args={said})
"""


@pytest.mark.parametrize(
    "body",
    ["out[:n] = x", "out.copy_(x)", "out += x", "torch.mul(x, 2, out=out)", "out[0] *= 2",
     "out.view(-1)[:n].copy_(x)"],
)  # fmt: skip
def test_a_write_is_found_unless_it_is_declared(found, body):
    content = START.replace("{body}", body)
    message = "out is written, and mutates_args does not say so"
    assert found("op-mutates", content.replace("{said}", "[]")) == [(5, message)]
    assert found("op-mutates", content.replace("{said}", '["out"]')) == []


def test_what_is_declared_and_no_argument_is_found(found):
    content = START.replace("{body}", "pass").replace("{said}", '["output"]')
    assert found("op-mutates", content) == [(4, "mutates_args names output, which is no argument")]


@pytest.mark.parametrize("body", ["out = x.clone(); out.mul_(2)", "n += 1", "y = x.mul(2)"])
def test_a_copy_and_a_number_may_change(found, body):
    assert found("op-mutates", START.replace("{body}", body).replace("{said}", "[]")) == []
