# SPDX-License-Identifier: Apache-2.0
"""What vLLM misses in the vendor's torch 2.5.1: mended at run time, or refused by name."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version

__all__ = ["RANGE", "is_installed"]

RANGE = "<2.6"


def is_installed() -> bool:
    """Whether the installed torch is of that range, by its metadata."""
    return version.matches(version.installed_torch(), SpecifierSet(RANGE))
