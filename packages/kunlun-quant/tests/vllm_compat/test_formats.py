# SPDX-License-Identifier: Apache-2.0
"""Every format that runs beside the installed vLLM is one of vLLM's, and is not refused."""

from __future__ import annotations

import pytest
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

from vllm_kunlun.platforms.vllm_compat import not_yet
from vllm_kunlun.quantization.vllm_compat import formats


@pytest.mark.parametrize("name", formats.CONFIGS)
def test_a_name_of_vllms_that_is_not_refused(name: str) -> None:
    assert name in QUANTIZATION_METHODS
    not_yet.check_quantisation(name)


def test_methods_of_one_name_only() -> None:
    names = [method.__name__ for method in formats.LINEAR_METHODS]
    assert len(set(names)) == len(names)
