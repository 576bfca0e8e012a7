# SPDX-License-Identifier: Apache-2.0
"""Additions, the torch range, and entries that only compilation needs, on planted modules."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import PatchError
from vllm_kunlun.platforms.ledger import entries as ledger_entries
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.patch_ledger import Addition, Patch, source_sha256

MODULE = "victim.tables"

VICTIM = """
    KINDS = {"int": 1, "str": 2}
    NAMES = {"a"}
    NUMBER = 7

    class Holder:
        table = {}

    def double(x):
        return 2 * x
    """

OURS = """
    def kinds(table): return {"str": 99, "list": 10 * table["int"]}
    def names(table): return dict.fromkeys(("a", "b"))
    def missing(names): return {"triple": lambda x: 3 * x, "double": None}
    def double(x): return 100
    """


@pytest.fixture(autouse=True)
def planted(ground) -> None:
    ground.module(MODULE, VICTIM)
    ground.module("our_additions", OURS)
    ground.distribution("torch", "2.5.1+vendor")


def addition(path: str, entries: str, name: str = "more") -> Addition:
    return Addition(
        name=name,
        target=f"{MODULE}:{path}",
        entries=f"our_additions:{entries}",
        why="why",
        upstream="link",
        vllm_range=">=0.15.1",
        remove_when="never",
    )


def patch() -> Patch:
    return Patch(
        name="double",
        target=f"{MODULE}:double",
        replacement="our_additions:double",
        why="why",
        upstream="link",
        vllm_range=">=0.15.1",
        sha256=source_sha256(f"{MODULE}:double") or "",
        remove_when="never",
    )


def state(entry: ledger_entries.Entry) -> str:
    (found,) = patch_ledger.report([entry])
    return found.state


@pytest.fixture(params=[True, False], ids=["imported-first", "imported-after"])
def tables(request) -> Callable[[list[ledger_entries.Entry]], object]:
    """Install entries before or after the import of their module; the module."""

    def install(entries: list[ledger_entries.Entry]) -> object:
        if request.param:
            importlib.import_module(MODULE)
        patch_ledger.install(entries)
        return importlib.import_module(MODULE)

    return install


def test_keys_are_added_and_what_is_there_stays(tables) -> None:
    entries = [
        addition("KINDS", "kinds", "kinds"),
        addition("NAMES", "names", "names"),
        addition("Holder.table", "names", "inner"),
    ]
    module = tables(entries)
    patch_ledger.install(entries)  # re-entrant
    assert module.KINDS == {"int": 1, "str": 2, "list": 10}
    assert {"a", "b"} == module.NAMES
    assert {state(entry) for entry in entries} == {"active"}
    patch_ledger.remove()
    assert module.KINDS == {"int": 1, "str": 2}
    assert {"a"} == module.NAMES
    assert module.Holder.table == {}


def test_a_missing_name_of_a_module(tables) -> None:
    module = tables([addition("__dict__", "missing")])
    assert module.triple(2) == 6
    assert module.double(2) == 4, "the name that exists is its own"
    patch_ledger.remove()
    assert not hasattr(module, "triple")


@pytest.mark.parametrize("path", ["GONE", "NUMBER", "Holder.gone"])
def test_a_table_that_is_none_stops_the_import(tables, path: str) -> None:
    with pytest.raises(PatchError, match=rf"'more'.*{path} must be a dict or a set"):
        tables([addition(path, "kinds")])


def test_a_table_that_is_none_and_only_compilation_needs(tables) -> None:
    entry = replace(addition("GONE", "kinds"), only_compilation=True)
    tables([entry])
    assert "must be a dict or a set" in patch_ledger.left_out()["more"]
    assert state(entry) == "left out"


def test_two_additions_to_one_table_and_two_of_one_name() -> None:
    first = addition("KINDS", "kinds")
    patch_ledger.install([first, replace(first, name="other")])
    with pytest.raises(PatchError, match="claim one name or one target"):
        patch_ledger.install([first, addition("NAMES", "names")])


# -- the range of torch -----------------------------------------------------------------------


@pytest.mark.parametrize("made", [patch, lambda: addition("KINDS", "kinds")])
@pytest.mark.parametrize(("torch_range", "applies"), [("<2.6", True), (">=2.6", False), ("", True)])
def test_an_entry_of_another_torch_does_not_apply(tables, made, torch_range, applies) -> None:
    entry = replace(made(), torch_range=torch_range)
    module = tables([entry])
    assert state(entry) == ("active" if applies else "out of range")
    assert ((module.double(3), module.KINDS) != (6, {"int": 1, "str": 2})) is applies


def test_a_stale_entry_of_another_torch_is_no_error() -> None:
    entry = replace(patch(), torch_range=">=2.6", sha256="0" * 64)
    patch_ledger.install([entry])
    (found,) = patch_ledger.report([entry])
    assert found.detail == "is for torch >=2.6, and 2.5.1+vendor is installed"


# -- the range of vLLM ------------------------------------------------------------------------


@pytest.mark.parametrize("made", [patch, lambda: addition("KINDS", "kinds")])
def test_an_entry_of_another_tested_vllm_does_not_apply(tables, made) -> None:
    entry = replace(made(), vllm_range="<0.15")
    module = tables([entry])
    assert (module.double(3), module.KINDS) == (6, {"int": 1, "str": 2})
    (found,) = patch_ledger.report([entry])
    assert found.state == "out of range"
    assert found.detail == f"is for vLLM <0.15, and {version.installed_vllm()} is installed"


def test_an_untested_vllm_outside_its_range_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.99.0")
    for entry in (addition("KINDS", "kinds"), replace(patch(), sha256="0" * 64)):
        entry = replace(entry, vllm_range="<0.15")
        with pytest.raises(PatchError, match=r"written for vLLM <0\.15, and 0\.99\.0 is installed"):
            patch_ledger.install([entry])
        assert state(entry) == "stale"


def test_an_untested_vllm_with_the_source_of_a_tested_one(tables, monkeypatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.99.0")
    entry = replace(patch(), vllm_range="<0.15")
    assert tables([entry]).double(3) == 100
    assert state(entry) == "active"


# -- a hash for each range --------------------------------------------------------------------


def of_ranges(**more: str) -> Patch:
    """The patch with the true hash for the installed release, and others for others."""
    true = patch().sha256
    here = f"=={version.installed_vllm()}"
    return replace(patch(), vllm_range=">=0.15.1", sha256={here: true, "==0.98": "0" * 64, **more})


def test_the_hash_is_that_of_the_range(tables) -> None:
    entry = of_ranges()
    assert tables([entry]).double(3) == 100
    assert entry.expected_sha256() == (patch().sha256,)


def test_the_hash_of_another_range_is_refused(monkeypatch) -> None:
    entry = of_ranges()
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.98")
    with pytest.raises(PatchError, match=rf"sha256 {patch().sha256}, expected {'0' * 64}\)"):
        patch_ledger.install([entry])


def test_a_tested_vllm_without_a_hash_is_out_of_range(tables) -> None:
    entry = replace(patch(), sha256={"==0.98": "0" * 64})
    assert tables([entry]).double(3) == 6
    assert state(entry) == "out of range"


def test_a_release_that_entries_are_written_for_need_not_be_tested(tables, monkeypatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.98")
    monkeypatch.setattr(version, "WRITTEN_FOR", ("==0.98",))
    entry = replace(patch(), sha256={"==0.97": "0" * 64})
    assert version.tested_as("0.98") is None
    assert tables([entry]).double(3) == 6
    assert state(entry) == "out of range"


def test_two_hashes_for_one_release() -> None:
    with pytest.raises(PatchError, match="name a hash for one release"):
        replace(patch(), sha256={">=0.15.1": "0" * 64, "==0.98": "1" * 64})


def test_no_torch_at_all_is_out_of_every_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_torch", lambda: None)
    entry = replace(addition("KINDS", "kinds"), torch_range="<2.6")
    assert ledger_entries.out_of_range(entry) == "is for torch <2.6, and none is installed"


# -- what only compilation needs --------------------------------------------------------------


def test_a_changed_source_leaves_the_entry_out(tables) -> None:
    stale = replace(patch(), sha256="0" * 64, only_compilation=True)
    fits = addition("KINDS", "kinds")
    module = tables([stale, fits])
    assert module.double(3) == 6
    assert module.KINDS["list"] == 10, "the others are applied"
    assert "the source of victim.tables:double changed" in patch_ledger.left_out()["double"]
    assert (state(stale), state(fits)) == ("left out", "active")


def test_someone_else_was_faster(ground) -> None:
    ground.module("intruder", "def double(x): return -x")
    module = importlib.import_module(MODULE)
    module.double = importlib.import_module("intruder").double
    patch_ledger.install([replace(patch(), only_compilation=True)])
    assert module.double(3) == -3
    assert "already replaced by the code at" in patch_ledger.left_out()["double"]


def test_nothing_is_left_out_where_all_fits(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vllm.kunlun"):
        patch_ledger.install([replace(patch(), only_compilation=True)])
    importlib.import_module(MODULE)
    assert patch_ledger.left_out() == {}
    assert caplog.text == ""
    patch_ledger.remove()
    assert patch_ledger.left_out() == {}
