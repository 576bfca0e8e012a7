# SPDX-License-Identifier: Apache-2.0
"""Rotary layers whose forward is not the plain one, against the arithmetic of vLLM's own."""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.custom_op import CustomOp, op_registry_oot
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers.rotary_embedding import common, get_rope
from vllm.model_executor.layers.rotary_embedding.ernie45_vl_rope import Ernie4_5_VLRotaryEmbedding

from vllm_kunlun.ops.layers import LAYERS, register_layers
from vllm_kunlun.platforms.errors import UnsupportedError

TOLERANCES = {  # rtol, atol; half precision: vLLM rounds at every step, we once
    torch.float32: (1e-5, 2e-6),
    torch.float16: (4e-3, 4e-3),
    torch.bfloat16: (3e-2, 3e-2),
}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
STYLES = pytest.mark.parametrize("neox", [True, False], ids=["neox", "side by side"])
MAX_POSITION = 64
TOKENS = 9


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


def pair(build: Callable[[], Any]) -> tuple[Any, Any]:
    """``(ours, vLLM's)`` of one constructor call."""
    layers = []
    for registry in (dict(op_registry_oot), {}):
        rotary_embedding._ROPE_DICT.clear()
        with mock.patch.dict(op_registry_oot, registry, clear=True):
            layers.append(build())
    ours, theirs = layers
    assert type(ours) is LAYERS[type(theirs).__name__]
    assert ours._forward_method == ours.forward_oot
    return ours, theirs


def close(ours: Any, theirs: Any) -> None:
    for our, their in zip(ours, theirs, strict=True):
        assert our.shape == their.shape
        assert our.dtype == their.dtype
        rtol, atol = TOLERANCES[our.dtype]
        torch.testing.assert_close(our, their, rtol=rtol, atol=atol)


def rope(dtype: torch.dtype, neox: bool, head_size: int = 32, **parameters: Any) -> Any:
    return get_rope(head_size, MAX_POSITION, neox, parameters, dtype)


def heads(dtype: torch.dtype, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(TOKENS, 4 * size).to(dtype), torch.randn(TOKENS, 2 * size).to(dtype)


def places(rows: int) -> torch.Tensor:
    """Different in each row, with the ends of the table."""
    positions = torch.randint(MAX_POSITION, (rows, TOKENS))
    positions[:, 0], positions[:, -1] = 0, MAX_POSITION - 1
    return positions


def test_every_rotary_layer_of_vllm_is_replaced() -> None:
    """What is no CustomOp (LongRoPE) is plain torch, whatever the device."""
    found = set()
    for module in pkgutil.iter_modules(rotary_embedding.__path__):
        loaded = importlib.import_module(f"{rotary_embedding.__name__}.{module.name}")
        found |= {
            name
            for name, item in vars(loaded).items()
            if isinstance(item, type) and issubclass(item, CustomOp) and item is not CustomOp
        }
    assert found - {"RotaryEmbeddingBase"} == {
        name for name in LAYERS if "Rotary" in name
    }  # the base is abstract


# ------------------------------------------------------------- several positions per token

SECTIONS = {
    "chunked": {"mrope_section": [4, 6, 6]},
    "chunked-no-height": {"mrope_section": [10, 0, 6]},
    "interleaved": {"mrope_section": [6, 5, 5], "mrope_interleaved": True},
    "interleaved-width-longer": {"mrope_section": [4, 4, 8], "mrope_interleaved": True},
    "partial": {"mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5},
    "partial-interleaved": {
        "mrope_section": [4, 2, 2],
        "partial_rotary_factor": 0.5,
        "mrope_interleaved": True,
    },
}


@DTYPES
@STYLES
@pytest.mark.parametrize("sections", sorted(SECTIONS))
def test_three_positions(sections: str, neox: bool, dtype: torch.dtype) -> None:
    ours, theirs = pair(lambda: rope(dtype, neox, **SECTIONS[sections]))
    query, key = heads(dtype)
    kept = query.clone(), key.clone()
    for positions in (places(3), places(1)[0]):
        expected = theirs.forward_native(positions, query, key)
        close(ours(positions, query.clone(), key.clone()), expected)
    ours(places(3), query, key)
    assert torch.equal(query, kept[0])
    assert torch.equal(key, kept[1])


def test_three_equal_positions_are_one() -> None:
    ours, _ = pair(lambda: rope(torch.float32, True, **SECTIONS["interleaved"]))
    query, key = heads(torch.float32)
    one = places(1)
    three = ours(one.expand(3, -1), query, key)
    close(three, ours(one[0], query.clone(), key.clone()))


@pytest.mark.parametrize("extra", [{}, {"beta_fast": 8, "attn_factor": 0.5}], ids=str)
def test_yarn_of_images_is_yarn_of_text(extra: dict[str, Any]) -> None:
    """vLLM 0.15.1 cannot build its own layer, so its layer for text says what is right."""
    parameters = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    ours = rope(torch.float32, True, **parameters, **extra, mrope_section=[4, 6, 6])
    text = rope(torch.float32, True, **parameters, **extra)
    assert type(ours) is LAYERS["MRotaryEmbedding"]
    query, key = heads(torch.float32)
    positions = torch.tensor([0, 1, 2, 31, 100, 511, 512, 1500, 2047])
    expected = text.forward_native(positions, query, key)
    close(ours(positions.expand(3, -1), query, key), expected)


def test_slices_of_a_packed_projection() -> None:
    ours, theirs = pair(lambda: rope(torch.float32, True, **SECTIONS["chunked"]))
    packed, positions = torch.randn(TOKENS, 8 * 32), places(3)
    query, key, _ = packed.split([4 * 32, 2 * 32, 2 * 32], dim=-1)
    expected = theirs.forward_native(positions, query.contiguous(), key.contiguous())
    close(ours(positions, query, key), expected)


@DTYPES
def test_ernie(dtype: torch.dtype) -> None:
    def build() -> Any:
        return Ernie4_5_VLRotaryEmbedding(
            32, 32, MAX_POSITION, 10_000, True, dtype, mrope_section=[5, 5, 6]
        )

    ours, theirs = pair(build)
    query, key = heads(dtype)
    for positions in (places(3), places(1)[0]):
        expected = theirs.forward_native(positions, query, key)
        close(ours(positions, query.clone(), key.clone()), expected)


@DTYPES
def test_xd(dtype: torch.dtype) -> None:
    parameters = {"rope_type": "xdrope", "alpha": 1000.0, "xdrope_section": [3, 4, 4, 5]}
    ours, theirs = pair(lambda: rope(dtype, True, **parameters))
    query, key = heads(dtype)
    positions = places(4)
    expected = theirs.forward_native(positions, query, key)
    close(ours(positions, query.clone(), key.clone()), expected)


# ------------------------------------------------------------------------------- DeepSeek

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


# -------------------------------------------------------------------------------- vision


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
    with (
        mock.patch.dict(op_registry_oot, clear=True),
        pytest.raises(ModuleNotFoundError, match="flash_attn"),
    ):
        common.ApplyRotaryEmb()


def test_dual_chunks_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"dual_chunk_attention_config.*--max-model-len"):
        get_rope(32, MAX_POSITION, dual_chunk_attention_config={"chunk_size": 16, "local_size": 4})
