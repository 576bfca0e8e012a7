# SPDX-License-Identifier: Apache-2.0
"""``op-annotations``: what torch 2.5.1's infer_schema takes, and what it does not."""

import pytest

START = """\
import torch
from torch import Tensor
from typing import List, Optional, Sequence, Tuple
from vllm.utils.torch_utils import direct_register_custom_op


def op(x: Tensor, more: {kind}) -> {result}:
    return x


direct_register_custom_op("op", op)
"""


@pytest.mark.parametrize(
    "kind",
    ["list[int]", "Tensor | None", "None | int", "dict", "Optional[list[int]]", "list", "List[str]",
     "'list[int]'", "Tuple[int]", "Sequence[Optional[int]]"],
)  # fmt: skip
def test_what_it_refuses_is_found(found, kind):
    content = START.replace("{kind}", kind).replace("{result}", "Tensor")
    assert found("op-annotations", content) == [
        (7, f"torch 2.5.1 cannot read the annotation {kind}")
    ]


@pytest.mark.parametrize(
    "kind",
    ["int", "torch.Tensor", "Optional[Tensor]", "List[int]", "Sequence[Tensor]", "torch.dtype",
     "Optional[List[float]]", "List[Optional[Tensor]]", "'Optional[int]'", "str"],
)  # fmt: skip
@pytest.mark.parametrize("result", ["Tensor", "None", "tuple[Tensor, Tensor]", "List[Tensor]"])
def test_what_it_takes_is_well(found, kind, result):
    content = START.replace("{kind}", kind).replace("{result}", result)
    assert found("op-annotations", content) == []


def test_a_parameter_without_one_and_a_result_are_found(found):
    content = START.replace("more: {kind}", "more").replace("{result}", "list[Tensor]")
    assert found("op-annotations", content) == [
        (7, "more has no annotation"),
        (7, "torch 2.5.1 cannot read the annotation list[Tensor]"),
    ]


def test_the_projects_own_decorator_takes_todays_spelling(found):
    content = """\
    from vllm_kunlun.ops import custom_op

    @custom_op()
    def op(x: Tensor, more: list[int] | None) -> None: ...
    """
    assert found("op-annotations", content) == []


@pytest.mark.parametrize(
    ("kind", "new"),
    [
        ("list[int]", "List[int]"),
        ("Tensor | None", "Optional[Tensor]"),
        ("list[int] | None", "Optional[List[int]]"),
    ],
)
def test_it_is_spelt_anew_with_its_imports(mended, kind, new):
    content = START.replace("{kind}", kind).replace("{result}", "Tensor")
    content = content.replace("from typing import List, Optional, Sequence, Tuple\n", "")
    result = mended("op-annotations", content)
    assert f"more: {new}) ->" in result
    scope: dict[str, object] = {}
    imports = [line for line in result.splitlines() if line.startswith(("import", "from t"))]
    exec("\n".join(imports), scope)
    eval(new, scope)
