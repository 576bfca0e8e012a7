# SPDX-License-Identifier: Apache-2.0
"""A model with pictures, and the same for text alone."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kunlun.platforms.vllm_compat import inputs

PICTURES = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "text_config": {"model_type": "llama", "num_hidden_layers": 1},
    "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 1},
    "torch_dtype": "float16",
}


@pytest.mark.parametrize(("limits", "takes"), [({}, True), ({"image": 0}, False)])
def test_limits(build: Any, limits: dict[str, int], takes: bool) -> None:
    config = build(PICTURES, limit_mm_per_prompt=limits)
    assert inputs.takes_more_than_text(config.model_config) is takes


def test_text(build: Any) -> None:
    assert not inputs.takes_more_than_text(build().model_config)
