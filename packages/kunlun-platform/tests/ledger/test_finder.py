# SPDX-License-Identifier: Apache-2.0
"""A ledger's place among the finders of the process, and what another thread sees of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from vllm_kunlun.platforms.ledger import finder
from vllm_kunlun.platforms.ledger.entries import Redirect


class First(finder.LedgerFinder[Redirect]):
    """A ledger of this test's."""


class Second(finder.LedgerFinder[Redirect]):
    """Another one."""


class Foreign:
    """A finder of somebody else's."""

    def find_spec(self, *_: object) -> None:
        return None


@pytest.fixture(autouse=True)
def _finders() -> Iterator[None]:
    before = list(sys.meta_path)
    yield
    sys.meta_path[:] = before


def redirect(target: str) -> Redirect:
    return Redirect(target, "ours", "w", "u", ">=0.15", "0" * 64, "r")


def kinds() -> list[type]:
    return [type(each) for each in sys.meta_path if isinstance(each, (First, Second, Foreign))]


def test_two_ledgers_are_ahead_of_all_others_and_stay_where_they_are() -> None:
    first, second = finder.put_first(First), finder.put_first(Second)
    assert sys.meta_path[:2] == [second, first]
    assert finder.put_first(First) is first
    assert finder.put_first(Second) is second
    assert sys.meta_path[:2] == [second, first]
    assert kinds() == [Second, First]


def test_a_finder_that_came_ahead_is_overtaken() -> None:
    first = finder.put_first(First)
    sys.meta_path.insert(0, Foreign())
    assert finder.put_first(First) is first
    assert kinds() == [First, Foreign]


def test_what_an_earlier_load_of_the_module_held_is_taken_over() -> None:
    old = finder.put_first(First)
    old.add({"a": redirect("a")})
    again = type("First", (finder.LedgerFinder,), {"__module__": __name__, "__qualname__": "First"})
    new = finder.put_first(again)
    assert type(new) is again
    assert new.entries == {"a": redirect("a")}
    assert old not in sys.meta_path
    assert finder.in_place(First) is new


def test_taken_out() -> None:
    assert finder.take_out(First) is None
    first = finder.put_first(First)
    assert finder.take_out(First) is first
    assert first not in sys.meta_path
    assert finder.in_place(First) is None


def test_entries_that_an_import_reads_never_change_under_it() -> None:
    first = First()
    first.add({"a": redirect("a")})
    read = first.entries
    first.add({"b": redirect("b")})
    first.drop("a")
    assert list(read) == ["a"]
    assert list(first.entries) == ["b"]


def test_the_entries_of_a_module() -> None:
    first = First()
    first.add({"a": redirect("a"), "b": redirect("b")})
    assert first.of_module("b") == [redirect("b")]
    assert first.of_module("c") == []
