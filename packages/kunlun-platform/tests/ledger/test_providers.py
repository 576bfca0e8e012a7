# SPDX-License-Identifier: Apache-2.0
"""Entries are collected for either ledger by one rule, under its own error and its own words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vllm_kunlun.platforms import version
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


# -- variants of one entry --------------------------------------------------------------------


OLD = replace(PATCH, vllm_range=">=0.15.1,<0.16")
NEW = replace(PATCH, vllm_range=">=0.16.0,<0.17", target="vllm.b:f", replacement="ours:g")


@pytest.mark.parametrize(("installed", "acts"), [("0.15.1", OLD), ("0.16.0+xpu", NEW)])
@pytest.mark.parametrize("given", [[OLD, NEW], [NEW, OLD]])
def test_the_variant_of_the_installed_vllm(monkeypatch, installed, acts, given) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: installed)
    assert providers.by_key(given) == {"one": acts}


def test_variants_that_meet_clash() -> None:
    with pytest.raises(PatchError, match="claim one name or one target"):
        providers.by_key([OLD, replace(NEW, vllm_range=">=0.15.9,<0.17")])
    with pytest.raises(PatchError, match="claim one name or one target"):
        providers.by_key([OLD, replace(NEW, name="other", target=OLD.target, vllm_range="")])
    a, b = (replace(REDIRECT, vllm_range=each) for each in (">=0.15", ">=0.16"))
    with pytest.raises(RedirectError, match="redirected twice"):
        providers.by_key([a, b])


def test_an_untested_vllm_takes_the_variant_whose_source_it_has(ground, monkeypatch) -> None:
    ground.module("victim.mod", "def f(): return 1\n")
    first = replace(OLD, target="victim.mod:f")
    here = replace(first, sha256=first.found_sha256)
    there = replace(NEW, target="victim.mod:f")
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.99.0")
    for given in ([here, there], [there, here]):
        assert providers.by_key(given) == {"one": here}
    assert providers.by_key([first, there]) == {"one": there}, "neither: the last, which is refused"


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
