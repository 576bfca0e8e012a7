# SPDX-License-Identifier: Apache-2.0
"""The activation of experts by name, and numbers that the ops do not compute with."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from vllm_kunlun.ops.vllm_compat.expert_activation import name_of
from vllm_kunlun.platforms.errors import UnsupportedError


class Kind(enum.Enum):
    SILU = "silu"
    OAI = "swigluoai"


@pytest.mark.parametrize(
    ("activation", "name"),
    [("silu", "silu"), (Kind.SILU, "silu"), (Kind.OAI, "swigluoai")],
)
def test_a_name_or_a_member_of_an_enumeration(activation: Any, name: str) -> None:
    assert name_of(SimpleNamespace(activation=activation)) == name


def test_the_numbers_of_gpt_oss() -> None:
    layer = SimpleNamespace(
        activation=Kind.OAI, swiglu_limit=7.0, swiglu_alpha=1.702, swiglu_beta=1.0
    )
    assert name_of(layer) == "swigluoai"


@pytest.mark.parametrize("activation", list(Kind))
@pytest.mark.parametrize("number", ["swiglu_limit", "swiglu_alpha", "swiglu_beta"])
def test_other_numbers_are_refused(activation: Kind, number: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{number}=3 "):
        name_of(SimpleNamespace(activation=activation, **{number: 3.0}))
