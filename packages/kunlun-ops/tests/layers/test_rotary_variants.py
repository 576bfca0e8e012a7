# SPDX-License-Identifier: Apache-2.0
"""Rotary layers with a forward of their own, against the arithmetic of vLLM's."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from unittest import mock

import pytest
import torch
from support.rotary_pairs import (
    DTYPES,
    MAX_POSITION,
    STYLES,
    TOKENS,
    close,
    pair,
    places,
    rope,
)
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers.rotary_embedding import common, get_rope

from vllm_kunlun.ops.layers import LAYERS, register_layers
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


DEEPSEEK = {
    "rope_type": "deepseek_yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "mscale": 1.0,
    "mscale_all_dim": 0.5,
}


@DTYPES
@STYLES
@pytest.mark.parametrize("partial", [1.0, 0.5])
def test_deepseek(partial: float, neox: bool, dtype: torch.dtype) -> None:
    parameters = {**DEEPSEEK, "partial_rotary_factor": partial}
    ours, theirs = pair(lambda: rope(dtype, neox, **parameters))
    # As latent attention passes them: the last dimensions of wider heads, one key for all heads.
    query = torch.randn(TOKENS, 4, 48).to(dtype)[..., 16:]
    key = torch.randn(TOKENS, 1, 48).to(dtype)[..., 16:]
    kept = query.clone()
    positions = places(1)[0]
    for offsets in (None, torch.full_like(positions, -3) * (positions > 3)):
        # vLLM's needs a batch dimension to rotate neox in 3-dimensional heads.
        batch = (positions[None], query[None], key[None], offsets)
        expected = [each.squeeze(0) for each in theirs.forward_native(*batch)]
        close(ours(positions, query, key, offsets), expected)
    assert torch.equal(query, kept)


def test_deepseek_rounds_the_heads_only() -> None:
    """The table stays float32: nearer to float64 than by a table in the model's dtype."""
    ours, theirs = pair(lambda: rope(torch.bfloat16, False, **DEEPSEEK))
    query, positions = torch.randn(TOKENS, 8, 32).bfloat16(), places(1)[0]
    exact, _ = pair(lambda: rope(torch.float32, False, **DEEPSEEK))
    wide = query.double()
    cos, sin = exact.cos_sin_cache[positions].double().unsqueeze(1).chunk(2, -1)
    a, b = wide[..., ::2], wide[..., 1::2]
    truth = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    error, upstream = (
        (layer[0].double() - truth).abs().max()
        for layer in (
            ours(positions, query, query),
            theirs.forward_native(positions, query, query),
        )
    )
    assert error < 2**-8 * truth.abs().max()
    assert error < upstream


@DTYPES
@pytest.mark.parametrize("batch", [1, 3])
def test_llama4_vision(batch: int, dtype: torch.dtype) -> None:
    def build() -> Any:
        parameters = {"rope_type": "mllama4", "partial_rotary_factor": 0.5}
        return get_rope(32, 16, False, parameters, torch.complex64)

    ours, theirs = pair(build)
    query = torch.randn(batch, 17, 4, 32).to(dtype)  # 16 patches and the class token
    key = torch.randn(batch, 17, 4, 32).to(dtype)
    close(ours(query, key), theirs.forward_native(query, key))


@DTYPES
@STYLES
@pytest.mark.parametrize("wide", [True, False])
def test_given_angles(wide: bool, neox: bool, dtype: torch.dtype) -> None:
    ours, theirs = pair(lambda: common.ApplyRotaryEmb(True, neox, wide))
    angles = torch.randn(TOKENS, 16)
    x = torch.randn(2, TOKENS, 4, 32).to(dtype)
    arguments = (x, angles.cos(), angles.sin())
    close([ours(*arguments)], [theirs.forward_native(*arguments)])


def test_a_flash_attn_without_triton_code_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = types.ModuleType("flash_attn")
    package.__path__ = []  # type: ignore[attr-defined]
    package.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
    monkeypatch.setitem(__import__("sys").modules, "flash_attn", package)
    rotary_embedding._ROPE_DICT.clear()
    assert isinstance(rope(torch.float32, True), LAYERS["RotaryEmbedding"])
    # vLLM's own does without it, too, since it suppresses the error.
    suppressed = hasattr(common, "suppress")
    expected = pytest.raises(ModuleNotFoundError, match="flash_attn")
    with mock.patch.dict(op_registry_oot, clear=True), nullcontext() if suppressed else expected:
        common.ApplyRotaryEmb()


def test_dual_chunks_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"dual_chunk_attention_config.*--max-model-len"):
        get_rope(32, MAX_POSITION, dual_chunk_attention_config={"chunk_size": 16, "local_size": 4})
