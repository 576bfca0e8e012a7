# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import IncompatibleVllmError


@pytest.mark.parametrize("found", ["0.15.1", "0.15.1+xpu", "0.15.1.post2", "0.15.2rc1", "0.15.9"])
def test_supported(found: str) -> None:
    version.check_vllm(found)


UNTESTED = ["0.11.0", "0.15.0", "0.15.1rc1", "0.15.1.dev3", "0.14.9", "1.0", "dev"]


@pytest.mark.parametrize("found", UNTESTED)
def test_untested_says_found_tested_and_command(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_KUNLUN_ALLOW_UNTESTED_VLLM", raising=False)
    with pytest.raises(IncompatibleVllmError) as caught:
        version.check_vllm(found)
    message = str(caught.value)
    assert f"found vLLM {found}, which is untested" in message
    for those in version.TESTED_VLLM.values():
        assert those in message
    assert message.count("\n") == 0
    command = message.partition("pip install '")[2].partition("'")[0]
    assert Requirement(command).specifier == SpecifierSet(version.V0_15)
    assert "VLLM_KUNLUN_ALLOW_UNTESTED_VLLM=1" in message


@pytest.mark.parametrize("found", UNTESTED)
def test_untested_runs_where_it_is_wanted_with_one_warning(
    found: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_ALLOW_UNTESTED_VLLM", "1")
    version._warn.cache_clear()
    for _ in range(2):
        version.check_vllm(found)
    (warning,) = caplog.messages
    assert warning.startswith(f"vLLM {found} is untested")
    assert version.tested_in_words() in warning


def test_tested_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    for release, those in version.TESTED_VLLM.items():
        version.check_vllm(release)
        assert version.matches(release, SpecifierSet(those))
        assert version.tested_as(f"{release}+xpu") == release
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("installed", "later"),
    [
        ("0.15.1", False),
        ("0.15.9+xpu", False),
        ("0.16.0.dev3", True),
        ("0.16.0", True),
        ("0.33.0", True),
        ("dev", True),
        (None, False),
    ],
)
def test_a_release_or_a_later_one(monkeypatch, installed: str | None, later: bool) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: installed)
    assert version.installed_is_from("0.16") is later


def test_entries_are_written_for_every_tested_release() -> None:
    assert set(version.TESTED_VLLM.values()) <= set(version.WRITTEN_FOR)
    for release in version.TESTED_VLLM:
        assert version.is_written_for(f"{release}+xpu")
        assert version.matches(release, SpecifierSet(version.EVERY))
    assert not version.is_written_for("0.20.0")
    assert not version.is_written_for(None)
    both = SpecifierSet(version.UNTIL_0_16)
    assert [version.matches(found, both) for found in ("0.15.1", "0.16.9", "0.33.0")] == [
        True,
        True,
        False,
    ]


def test_no_two_ranges_meet() -> None:
    ranges = [SpecifierSet(those) for those in version.WRITTEN_FOR]
    for number, one in enumerate(ranges):
        assert not any(version.overlap(one, other) for other in ranges[number + 1 :])


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (">=0.15.1,<0.16", ">=0.16.0,<0.17", False),
        (">=0.15.1,<0.16", ">=0.15.9,<0.17", True),
        (">=0.15.1", "<0.15.1", False),
        (">=0.15.1", "<=0.15.1", True),
        ("<0.15", "<0.16", True),
        (">0.15", ">0.16", True),
        (">0.15,<0.16", "==0.15.*", True),
        ("==0.15.*", "==0.16.*", False),
        ("==0.15.1", "==0.15.1", True),
        ("", "==0.33.0", True),
    ],
)
def test_ranges_that_meet(one: str, other: str, meet: bool) -> None:
    assert version.overlap(SpecifierSet(one), SpecifierSet(other)) is meet
    assert version.overlap(SpecifierSet(other), SpecifierSet(one)) is meet


def test_reads_the_installed_version_without_importing_vllm(ground) -> None:
    ran = ground.python(
        """
        import sys
        from vllm_kunlun.platforms import version
        print(version.installed_vllm(), "vllm" in sys.modules)
        """
    )
    assert ran.stdout.split() == ["0.15.1", "False"], ran.stderr


def test_no_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert version.installed_vllm() is None
    monkeypatch.setenv("VLLM_KUNLUN_ALLOW_UNTESTED_VLLM", "1")
    with pytest.raises(IncompatibleVllmError, match="no vLLM is installed: run"):
        version.check_vllm()


def test_nothing_matches_no_version() -> None:
    assert not version.matches(None, SpecifierSet(""))
