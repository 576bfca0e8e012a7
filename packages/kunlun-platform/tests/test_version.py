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


@pytest.mark.parametrize(
    "found", ["0.11.0", "0.15.0", "0.15.1rc1", "0.15.1.dev3", "0.16.0", "0.16.0rc1", "1.0", "dev"]
)
def test_unsupported_says_found_range_and_command(found: str) -> None:
    with pytest.raises(IncompatibleVllmError) as caught:
        version.check_vllm(found)
    message = str(caught.value)
    assert found in message
    assert message.count("\n") == 0
    command = message.partition("pip install '")[2].partition("'")[0]
    assert Requirement(command).specifier == version.SUPPORTED_VLLM


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
    with pytest.raises(IncompatibleVllmError, match="no vLLM is installed"):
        version.check_vllm()


def test_nothing_matches_no_version() -> None:
    assert not version.matches(None, SpecifierSet(""))
