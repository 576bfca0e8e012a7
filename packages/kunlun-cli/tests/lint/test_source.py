# SPDX-License-Identifier: Apache-2.0
"""What rules ask of a file."""

from pathlib import Path

import libcst as cst
import pytest

from vllm_kunlun.cli.lint.source import Source, argument, strings, text

CONTENT = """\
import torch.nn.functional as F
from vllm import envs
from .near import Base as B


class Inner(B):
    def __init__(self):
        self.a, self.b = make(), other(1, key=2)


@decorate
class Outer(Inner):
    def forward(self, x):
        if is_cuda():
            return F.silu(x)
        return envs.VALUE
"""


@pytest.fixture(scope="module")
def source():
    return Source(Path("x.py"), CONTENT)


def test_names_are_written_out(source):
    names = {source.qualified(each) for each in source.of(cst.Attribute)}
    assert {"torch.nn.functional.silu", "vllm.envs.VALUE", "self.a"} <= names
    assert source.classes["Inner"].bases == [".near.Base"]
    assert source.qualified(cst.parse_expression("'text'")) == ""


def test_classes_know_their_lineage_and_decorators(source):
    outer = source.classes["Outer"]
    assert [one.name for one in source.lineage(outer)] == ["Outer", "Inner"]
    assert outer.decorators == ["decorate"]
    assert source.is_in_layer(next(source.calls("silu")))
    assert not source.is_in_layer(next(source.calls("make")))


def test_attributes_of_an_assignment_of_several(source):
    assert sorted(source.attributes) == ["a", "b"]


def test_what_is_inside_is_inside(source):
    init = source.classes["Inner"].methods["__init__"]
    assert [text(call.func) for call in source.inside(init, cst.Call)] == ["make", "other"]
    order = [source.order(call) for call in source.of(cst.Call)]
    assert order == sorted(order)


def test_a_branch_for_another_device_is_guarded(source):
    assert source.is_guarded(next(source.calls("silu")))
    assert not source.is_guarded(next(source.calls("is_cuda")))


def test_places_count_lines_from_one(source):
    assert source.place(source.classes["Outer"].node.name).start.line == 12


def test_arguments_by_name_and_by_place(source):
    call = next(source.calls("other"))
    assert text(argument(call, "key")) == "2"
    assert text(argument(call, "x", 0)) == "1"
    assert argument(call, "x", 1) is None
    assert strings(cst.parse_expression("['a', ('b', c)]")) == ["a", "b"]
