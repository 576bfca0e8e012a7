# SPDX-License-Identifier: Apache-2.0
"""Vision-language models through the engine against HF transformers: images, video, text."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from support import quantised, vision
from support.engine import engine, greedy
from support.engine_state import assert_split, watch_prompts
from support.vision import REQUESTS, Request, VisionReference
from support.w8a8 import float_model
from vllm import LLM

from vllm_kunlun.ops import vendor_ops

NEW_TOKENS = 24


@pytest.fixture(scope="module", params=vision.CONFIGURATIONS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name, tmp_path_factory) -> Path:
    return vision.write(name, tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def requests(name) -> list[Request]:
    return [request.placed(name) for request in REQUESTS]


@pytest.fixture(scope="module")
def expected(model, requests) -> list[list[int]]:
    reference = VisionReference(model)
    return [reference.greedy(request, NEW_TOKENS) for request in requests]


def seeing(model: Path, **arguments: Any) -> Any:
    return engine(model, **{**vision.ENGINE, **arguments})


def answers(llm: LLM, requests: list[Request]) -> list[list[int]]:
    return greedy(llm, [request.for_vllm() for request in requests], NEW_TOKENS)


def test_positions_equal_transformers(model, requests):
    """Of every prompt with version 4, of those without a video with version 5."""
    reference = VisionReference(model)
    if not reference.has_frame_positions:
        pytest.skip("its videos have no positions of their own")
    rope_index = type(reference.model.model).get_rope_index
    for request in requests:
        if request.video is not None and not vision.COUNTS_AS_PUBLISHED:
            continue
        inputs = reference.inputs(request)
        named = {
            name: inputs[name]
            for name in inspect.signature(rope_index).parameters
            if name in inputs
        }
        theirs, _ = rope_index(reference.model.model, **named)
        assert torch.equal(reference.positions(inputs), theirs[:, 0])


def test_tokens_equal_transformers(model, requests, expected, monkeypatch):
    """All in one batch; the encoder attends by the vendor's function."""
    lengths: list[int] = []

    def record(name: str) -> None:
        function = getattr(vendor_ops, name)

        def recorded(q: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
            lengths.append(q.shape[-3])
            return function(q, *others, **named)

        monkeypatch.setattr(vendor_ops, name, recorded)

    record("flash_attn_func")
    record("flash_attn_varlen_func")
    with seeing(model) as llm:
        lengths.clear()
        assert answers(llm, requests) == expected
    assert max(lengths) >= 16


@pytest.mark.slow
def test_a_batch_equals_one_at_a_time_and_cached_prefixes(model, requests, expected):
    with seeing(model, enable_prefix_caching=True, block_size=16, disable_log_stats=False) as llm:
        assert [answers(llm, [request])[0] for request in requests] == expected
        assert answers(llm, requests) == expected
        hits = next(m.value for m in llm.get_metrics() if m.name == "vllm:prefix_cache_hits")
    assert hits > 0


@pytest.mark.slow
def test_pieces_of_prompts(model, requests, expected):
    """A picture's tokens, too, may come in two pieces."""
    with seeing(model, enable_chunked_prefill=True, max_num_batched_tokens=20) as llm:
        seen = watch_prompts(llm)
        assert answers(llm, requests) == expected
    assert_split(seen, 20)


@pytest.mark.slow
def test_compiled(model, requests, expected):
    with seeing(model, enforce_eager=False) as llm:
        assert llm.llm_engine.vllm_config.compilation_config.mode.name == "VLLM_COMPILE"
        assert answers(llm, requests) == expected


@pytest.mark.slow
def test_two_ranks(model, requests, expected, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with seeing(model, tensor_parallel_size=2) as llm:
        assert answers(llm, requests) == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_packed_language_model_beside_a_plain_encoder(method, model, name, requests, tmp_path):
    """What public quantisers make of such a model; AWQ lists the encoder, GPTQ does not."""
    if name == "qwen3-vl-moe":
        pytest.skip("the tests' quantiser knows layers, and HF has these experts in one")
    encoder = ("visual", "vision_tower", "multi_modal_projector")
    scheme = quantised.Scheme(method, group=32, skipped=("lm_head", *encoder))
    packed, plain = quantised.write(model, tmp_path, scheme)
    reference = VisionReference(model, float_model(plain))
    expected = [reference.greedy(request, NEW_TOKENS) for request in requests]
    with seeing(packed) as llm:
        assert answers(llm, requests) == expected
