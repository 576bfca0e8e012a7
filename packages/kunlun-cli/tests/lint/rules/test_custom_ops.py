# SPDX-License-Identifier: Apache-2.0
"""Which functions are custom ops, and what they say that they write."""

from pathlib import Path

from vllm_kunlun.cli.lint.rules.custom_ops import custom_ops
from vllm_kunlun.cli.lint.source import Source


def test_every_way_to_register_is_known():
    content = """\
from torch.library import custom_op
from vllm.utils.torch_utils import direct_register_custom_op
from vllm_kunlun.ops import custom_op as ours

def one(x): ...

@custom_op("mine::two", mutates_args=("x",))
def two(x): ...

@ours(mutates_args=WRITTEN)
def three(x): ...

def four(x): ...

direct_register_custom_op("one", one, ["x"], fake_impl=four)
direct_register_custom_op(op_name="five", op_func=from_elsewhere)
"""
    found = [(f.name.value, said, by) for f, said, by in
             custom_ops(Source(Path("x.py"), content))]  # fmt: skip
    assert found == [
        ("one", ["x"], "vllm.utils.torch_utils.direct_register_custom_op"),
        ("two", ["x"], "torch.library.custom_op"),
        ("three", None, "vllm_kunlun.ops.custom_op"),
    ]
