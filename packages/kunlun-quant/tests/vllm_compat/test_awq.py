# SPDX-License-Identifier: Apache-2.0
"""vLLM's own comparison of names, by a part of them."""

from __future__ import annotations

import pytest

from vllm_kunlun.quantization.vllm_compat.awq import is_left_out


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [([], False), (["q_proj"], True), (["layers.0."], True), (["k_proj", "layers.1."], False)],
)
def test_a_part_of_a_name(left_out: list[str], expected: bool) -> None:
    assert is_left_out("model.layers.0.self_attn.q_proj", left_out) is expected
