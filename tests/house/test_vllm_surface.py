# SPDX-License-Identifier: Apache-2.0
"""The vLLM that is installed is, in all that we use of it, the one that the list describes."""

from __future__ import annotations

import pytest
import surface
from vllm_surface import compare


def test_the_installed_vllm_and_our_sources_are_as_listed() -> None:
    differences = surface.against_installed()
    if differences:
        lines = "\n".join(compare.by_file(differences))
        pytest.fail(f"Differences: {len(differences)}\n{lines}\n{surface.NEXT}", pytrace=False)
