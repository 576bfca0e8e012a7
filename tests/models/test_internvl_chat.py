# SPDX-License-Identifier: Apache-2.0
"""InternVL's chat format through the engine against HF's InternVL with the same weights.

Pictures are of one tile and of its size: then neither side resizes, which they do differently.
"""

from __future__ import annotations

import dataclasses

import pytest
from support import internvl_chat, vision
from support.engine import WAYS, engine, greedy
from support.vision import IMAGE, Request, VisionReference, picture

NEW_TOKENS = 24
REQUESTS = [
    Request(f"{IMAGE}\nWhat is this?", [picture(0, 56, 56)]),
    Request("No picture at all here."),
    Request(f"{IMAGE} and {IMAGE}: compare.", [picture(1, 56, 56), picture(2, 56, 56)]),
]


@pytest.mark.parametrize("way", WAYS)
def test_tokens_equal_transformers(way, tmp_path, monkeypatch):
    source = vision.write("internvl", tmp_path / "hf")
    reference = VisionReference(source)
    images = reference.processor.image_processor
    images.image_mean, images.image_std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = [reference.greedy(r.placed("internvl"), NEW_TOKENS) for r in REQUESTS]
    folder = internvl_chat.write(source, tmp_path / "chat")
    if "tensor_parallel_size" in way:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    asked = [
        dataclasses.replace(r, prompt=r.prompt.replace(IMAGE, "<image>")).for_vllm()
        for r in REQUESTS
    ]
    options = {"skip_tokenizer_init": False, "limit_mm_per_prompt": {"image": 2, "video": 0}, **way}
    with engine(folder, trust_remote_code=True, max_model_len=512, **options) as llm:
        for _ in range(2):
            assert greedy(llm, asked, NEW_TOKENS) == expected
