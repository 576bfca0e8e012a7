# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import collections.abc
import typing

from vllm_kunlun.platforms.torch25.schema_types import builtin_spellings

TABLE = {
    int: "SymInt",
    typing.Optional[int]: "SymInt?",  # noqa: UP045
    typing.List[int]: "SymInt[]",  # noqa: UP006
    typing.Sequence[float]: "float[]",
    typing.Optional[typing.List[bool]]: "bool[]?",  # noqa: UP006, UP045
    typing.Union[int, float, bool]: "Scalar",  # noqa: UP007
}


def test_lists_and_sequences_also_inside_optional() -> None:
    added = builtin_spellings(TABLE)
    assert added == {
        list[int]: "SymInt[]",
        collections.abc.Sequence[float]: "float[]",
        typing.Optional[list[bool]]: "bool[]?",  # noqa: UP045
    }


def test_a_bar_finds_what_optional_was_entered_as() -> None:
    added = builtin_spellings(TABLE)
    assert added[list[bool] | None] == "bool[]?"
