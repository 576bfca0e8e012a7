# SPDX-License-Identifier: Apache-2.0
"""The family is found by entry point, under the architectures that checkpoints name."""

from __future__ import annotations

import pytest

from vllm_kunlun.models.mimo.family import family
from vllm_kunlun.platforms.families import family_for


@pytest.mark.parametrize("architecture", ["MiMoForCausalLM", "MiMoV2FlashForCausalLM"])
def test_found_by_the_architecture_that_checkpoints_name(architecture):
    assert family_for(architecture) == family()
