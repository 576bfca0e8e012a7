# SPDX-License-Identifier: Apache-2.0
"""How the replacements hand calls on, with stand-ins for Dynamo 2.5; the real one is held in the
vendor's pairing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.torch25 import dynamo


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the originals are called with."""
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(patch_ledger, "original", lambda name: lambda *given: made.append(given))
    return made


def test_a_call_is_inlined_with_four_arguments(calls) -> None:
    translator = SimpleNamespace(inline_call_=dynamo.inline_call_)
    dynamo.inline_call(translator, "parent", "function", ["x"], {"k": 1})
    assert calls == [("parent", "function", ["x"], {"k": 1})]


def test_a_stand_in_of_one_argument_sees_the_code_and_hands_it_on(calls) -> None:
    original, seen = dynamo.inline_call_, []

    def stand_in(one: Any) -> Any:  # as vLLM writes it
        seen.append(one.f_code)
        return original(one)

    function = SimpleNamespace(get_code=lambda: "code")
    dynamo.inline_call(SimpleNamespace(inline_call_=stand_in), "parent", function, ["x"], {})
    assert seen == ["code"]
    assert calls == [("parent", function, ["x"], {})]


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"guard_filter_fn": print, "other": 1}, {"other": 1}), ({}, {}), (None, {})],
)
def test_the_guard_filter_is_dropped(calls, options, kept) -> None:
    dynamo.without_guard_filter("self", "backend", None, options, False)
    assert calls == [("self", "backend", None, kept, False)]


@pytest.mark.parametrize(
    ("value", "arguments", "keywords"),
    [(list, 1, {}), (torch.Size, 2, {}), (torch.Size, 1, {"k": 1}), (torch.Size, 0, {})],
)
def test_other_classes_are_called_as_before(calls, value, arguments, keywords) -> None:
    argument = SimpleNamespace(has_unpack_var_sequence=lambda tx: True)
    variable = SimpleNamespace(value=value)
    dynamo.call_class(variable, "tx", [argument] * arguments, keywords)
    assert calls == [(variable, "tx", [argument] * arguments, keywords)]


def test_a_size_is_traced_from_its_parts(calls) -> None:
    from torch._dynamo.variables import ConstantVariable
    from torch._dynamo.variables.lists import SizeVariable

    parts = [ConstantVariable.create(3), ConstantVariable.create(4)]
    argument = SimpleNamespace(
        has_unpack_var_sequence=lambda tx: True, unpack_var_sequence=lambda tx: parts
    )
    found = dynamo.call_class(SimpleNamespace(value=torch.Size), "tx", [argument], {})
    assert isinstance(found, SizeVariable)
    assert found.items == parts
    assert calls == []
