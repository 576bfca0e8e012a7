# SPDX-License-Identifier: Apache-2.0
"""Entries are collected for either ledger by one rule, under its own error and its own words."""

from __future__ import annotations

import pytest

from vllm_kunlun.platforms.errors import PatchError, RedirectError
from vllm_kunlun.platforms.ledger import providers
from vllm_kunlun.platforms.ledger.entries import Addition, Patch, Redirect

REDIRECT = Redirect("vllm.a", "ours", "w", "u", ">=0.15", "0" * 64, "r")
PATCH = Patch("one", "vllm.a:f", "ours:f", "w", "u", ">=0.15", "0" * 64, "r")
ADDITION = Addition("two", "vllm.a:f", "ours:f", "w", "u", ">=0.15", "r")


def test_entries_by_key() -> None:
    assert providers.by_key([REDIRECT]) == {"vllm.a": REDIRECT}
    assert providers.by_key([PATCH, ADDITION]) == {"one": PATCH, "two": ADDITION}


def test_one_entry_given_twice_is_two() -> None:
    with pytest.raises(
        RedirectError, match=r"vllm\.a is redirected twice, to ours and to ours\. U"
    ):
        providers.by_key([REDIRECT, REDIRECT])
    with pytest.raises(PatchError, match=r"patches 'one' \(of vllm\.a:f\) and 'one'"):
        providers.by_key([PATCH, PATCH])


def test_a_provider_of_the_other_ledgers_entries(ground) -> None:
    ground.module(
        "crossed",
        """
        from vllm_kunlun.platforms.ledger.entries import Redirect
        def entries(): return [Redirect("vllm.a", "ours", "w", "u", ">=0.15", "0", "r")]
        """,
    )
    ground.distribution("wheel-a", patches={"crossed": "crossed:entries"})
    with pytest.raises(PatchError, match="the patches 'crossed' must be a sequence of Patch or Ad"):
        providers.collect(ground.patches, "patches", Patch, Addition)
    (found,) = providers.collect(ground.patches, "redirects", Redirect)
    assert found == "vllm.a"
