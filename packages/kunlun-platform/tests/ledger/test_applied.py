# SPDX-License-Identifier: Apache-2.0
"""What is applied to a live module, and what undoing it leaves alone."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest

from vllm_kunlun.platforms.errors import PatchError
from vllm_kunlun.platforms.ledger import applied
from vllm_kunlun.platforms.ledger.entries import Addition, Patch


def test_a_replacement_that_someone_replaced_is_left_to_them() -> None:
    holder = SimpleNamespace(f="ours")
    done = applied.Replaced(holder, "f", raw="theirs", original="theirs", replacement="ours")
    done.undo()
    assert holder.f == "theirs"
    holder.f = "someone's"
    done.undo()
    assert holder.f == "someone's"


def test_an_addition_that_someone_replaced_is_left_to_them() -> None:
    table = {"ours": 1, "changed": "someone's", "own": 3}
    applied.Added(table, {"ours": 1, "changed": 2, "gone": 4}).undo()
    assert table == {"changed": "someone's", "own": 3}
    names = {"ours", "own"}
    applied.Added(names, {"ours": None}).undo()
    assert names == {"own"}


@pytest.mark.parametrize(
    "entry",
    [
        Patch("n", "victim:f", "ours_absent:f", "w", "u", ">=0.15", "0", "r"),
        Patch("n", "victim:gone", "ours_absent:f", "w", "u", ">=0.15", "0", "r"),
        Addition("n", "victim:f", "ours_absent:f", "w", "u", ">=0.15", "r"),
        Addition("n", "victim:table", "ours_absent:f", "w", "u", ">=0.15", "r"),
    ],
    ids=["no replacement", "no target", "no table", "no entries"],
)
def test_what_is_refused_changes_nothing(entry: Patch | Addition) -> None:
    module = ModuleType("victim")
    module.f, module.table = len, {"own": 1}
    with pytest.raises(PatchError, match="patch 'n': "):
        applied.apply(entry, module)
    assert (module.f, module.table) == (len, {"own": 1})
