# SPDX-License-Identifier: Apache-2.0
"""Every layer that replaces one of vLLM's, against the arithmetic of the one it replaces."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers import rotary_embedding, vocab_parallel_embedding
from vllm.model_executor.layers.activation import GeluAndMul, QuickGELU, SiluAndMul
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm, RMSNormGated
from vllm.model_executor.layers.rotary_embedding import get_rope

from vllm_kunlun.ops.layers import LAYERS, embedding, register_layers
from vllm_kunlun.ops.layers.rotary import ROTARY_LAYERS
from vllm_kunlun.ops.torch_ops import vllm_names
from vllm_kunlun.platforms.errors import KunlunError

TOLERANCES = {  # rtol, atol; half precision: one rounding more or less than vLLM's
    torch.float32: (1e-5, 1e-6),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (1.6e-2, 1.6e-2),
}
DTYPES = list(TOLERANCES)
ROWS = [(1,), (5,), (2, 3)]
"""Leading dimensions: one token, a step, a batch of sequences."""


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    vllm_names.define()
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


def close(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, tuple):
        assert isinstance(ours, tuple) and len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            close(our, their)
        return
    assert ours.shape == theirs.shape
    rtol, atol = TOLERANCES[ours.dtype]
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=rtol, atol=atol)


def replaced_and_own(build: Callable[[], Any]) -> tuple[Any, Any]:
    """``(ours, vLLM's)`` of one constructor call, with the same parameters."""
    with mock.patch.dict(op_registry_oot, clear=True):
        theirs = build()
    ours = build()
    assert not type(theirs).__module__.startswith("vllm_kunlun")
    assert type(ours).__module__.startswith("vllm_kunlun")
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(1.0, 0.5)
            ours.get_parameter(name).copy_(parameter)
    return ours, theirs


def strided(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Random, with the last dimension cut out of a wider one, as a split projection is."""
    wide = torch.randn(*shape[:-1], 2 * shape[-1] + 3).to(dtype)
    return wide[..., 2 : 2 + shape[-1]]


# ------------------------------------------------------------------------------ registry


def _vllm_classes() -> dict[str, type]:
    found = {}
    for module in (
        "activation",
        "attention.mm_encoder_attention",
        "layernorm",
        "vocab_parallel_embedding",
        "rotary_embedding",
        "rotary_embedding.common",
        "rotary_embedding.ernie45_vl_rope",
        "fused_moe.router.grouped_topk_router",
        "fused_moe.unquantized_fused_moe_method",
    ):
        imported = importlib.import_module(f"vllm.model_executor.layers.{module}")
        found.update(
            {name: item for name, item in vars(imported).items() if isinstance(item, type)}
        )
    return found


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_each_name_is_a_class_of_vllm_that_ours_extends(name: str) -> None:
    original = _vllm_classes()[name]
    assert original.__name__ == name
    assert issubclass(LAYERS[name], original)
    assert LAYERS[name].__name__ == f"Kunlun{name}"
    assert op_registry_oot[name] is LAYERS[name]


def test_registering_twice_changes_nothing() -> None:
    before = dict(op_registry_oot)
    register_layers()
    assert op_registry_oot == before


def test_a_layer_taken_by_another_plugin_is_an_error() -> None:
    class Foreign(RMSNorm):
        pass

    with (
        mock.patch.dict(op_registry_oot, {"RMSNorm": Foreign}),
        pytest.raises(
            KunlunError, match=r"layer RMSNorm is already replaced by .*Foreign.*VLLM_PLUGINS"
        ),
    ):
        register_layers()


def test_every_rotary_embedding_with_the_plain_forward_is_covered() -> None:
    assert {
        "RotaryEmbedding",
        "Llama3RotaryEmbedding",
        "LinearScalingRotaryEmbedding",
        "NTKScalingRotaryEmbedding",
        "DynamicNTKScalingRotaryEmbedding",
        "DynamicNTKAlphaRotaryEmbedding",
        "YaRNScalingRotaryEmbedding",
    } <= set(ROTARY_LAYERS)
    # Three positions per token: another forward, so it is none of these.
    assert "MRotaryEmbedding" not in ROTARY_LAYERS


@pytest.mark.parametrize(
    "build",
    [lambda: RMSNorm(8), lambda: GemmaRMSNorm(8), SiluAndMul, GeluAndMul, QuickGELU],
    ids=["RMSNorm", "GemmaRMSNorm", "SiluAndMul", "GeluAndMul", "QuickGELU"],
)
def test_constructing_vllms_class_gives_ours_and_dispatches_to_it(build: Any) -> None:
    layer = build()
    assert type(layer) is LAYERS[type(layer).name]
    assert layer._forward_method == layer.forward_oot


# --------------------------------------------------------------------------------- norms


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hidden", [1, 33, 576])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("kind", [RMSNorm, GemmaRMSNorm])
def test_norm(kind: Any, rows: tuple[int, ...], hidden: int, dtype: torch.dtype) -> None:
    ours, theirs = replaced_and_own(lambda: kind(hidden, eps=1e-5).to(dtype))
    for x in (torch.randn(*rows, hidden).to(dtype), strided(*rows, hidden, dtype=dtype)):
        kept = x.clone()
        close(ours(x), theirs.forward_native(x))
        assert torch.equal(x, kept), "without a residual the input is not to be written"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hidden", [1, 33, 576])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("kind", [RMSNorm, GemmaRMSNorm])
def test_norm_with_residual(kind: Any, rows: tuple[int, ...], hidden: int, dtype: Any) -> None:
    ours, theirs = replaced_and_own(lambda: kind(hidden, eps=1e-5).to(dtype))

    def contiguous() -> torch.Tensor:
        return torch.randn(*rows, hidden).to(dtype)

    def cut() -> torch.Tensor:
        return strided(*rows, hidden, dtype=dtype)

    for x, residual in ((contiguous(), contiguous()), (cut(), contiguous()), (contiguous(), cut())):
        expected = theirs.forward_native(x.clone(), residual.clone())
        close(ours(x, residual), expected)


def test_norm_in_float32_on_a_half_precision_stream() -> None:
    ours, theirs = replaced_and_own(lambda: RMSNorm(24, dtype=torch.float32))
    x, residual = torch.randn(3, 24).half(), torch.randn(3, 24).half()
    assert ours(x).dtype == theirs.forward_native(x).dtype
    torch.testing.assert_close(ours(x), theirs.forward_native(x), rtol=1e-5, atol=1e-6)
    mixed = ours(x.clone(), residual.float())
    torch.testing.assert_close(mixed, theirs.forward_native(x, residual.float()))


def test_norm_without_a_weight_or_over_a_part_of_the_row() -> None:
    x = torch.randn(4, 24)
    bare = RMSNorm(24, has_weight=False)
    wide = x.double()
    expected = wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
    torch.testing.assert_close(bare(x), expected.float(), rtol=1e-5, atol=1e-6)
    ours, theirs = replaced_and_own(lambda: RMSNorm(24, var_hidden_size=8))
    batch = torch.randn(2, 3, 24)
    close(ours(batch), theirs.forward_native(batch))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("norm_before_gate", [True, False])
@pytest.mark.parametrize("group_size", [None, 16])
def test_gated_norm(
    group_size: int | None, norm_before_gate: bool, rows: tuple[int, ...], dtype: torch.dtype
) -> None:
    ours, theirs = replaced_and_own(
        lambda: RMSNormGated(48, 1e-5, group_size, norm_before_gate).to(dtype)
    )
    theirs.float()  # vLLM squares in the layer's dtype
    x, z = torch.randn(*rows, 48).to(dtype), strided(*rows, 48, dtype=dtype)
    close(ours(x, z), theirs.forward_native(x.float(), z.float()).to(dtype))
    close(ours(x), theirs.forward_native(x.float()).to(dtype))
    wide = z.float()
    assert ours(x, wide).dtype == torch.float32, "operands of two dtypes: vLLM's arithmetic"


# --------------------------------------------------------------------------- activations


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 33, 96])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize(
    "build",
    [SiluAndMul, GeluAndMul, lambda: GeluAndMul("tanh"), QuickGELU],
    ids=["SiluAndMul", "GeluAndMul", "GeluAndMul-tanh", "QuickGELU"],
)
def test_activation(build: Any, rows: tuple[int, ...], width: int, dtype: torch.dtype) -> None:
    ours, theirs = replaced_and_own(build)
    rtol, atol = TOLERANCES[dtype]
    for x in (torch.randn(*rows, 2 * width).to(dtype), strided(*rows, 2 * width, dtype=dtype)):
        kept = x.clone()
        # In gelu's tail 1 + erf(x) cancels, differently for each of torch's loops.
        expected = theirs.forward_native(3 * x)
        torch.testing.assert_close(ours(3 * x), expected, rtol=rtol, atol=10 * atol)
        ours(x)
        assert torch.equal(x, kept)


# ---------------------------------------------------------------------------------- rope

_ROPES = {
    "default": {"rope_theta": 10_000.0},
    "partial": {"rope_theta": 500.0, "partial_rotary_factor": 0.25},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "linear": {"rope_type": "linear", "factor": 4.0},
    "ntk": {"rope_type": "ntk", "factor": 2.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "dynamic-alpha": {"rope_type": "dynamic", "alpha": 1000.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
}


def rope_pair(dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Any, Any]:
    def build() -> Any:
        rotary_embedding._ROPE_DICT.clear()
        arguments = {"head_size": 64, "max_position": 128, "dtype": dtype} | changes
        return get_rope(**arguments)

    return replaced_and_own(build)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("neox", [True, False], ids=["neox", "interleaved"])
@pytest.mark.parametrize("scaling", sorted(_ROPES))
def test_rope(scaling: str, neox: bool, dtype: torch.dtype) -> None:
    ours, theirs = rope_pair(dtype, is_neox_style=neox, rope_parameters=_ROPES[scaling])
    assert torch.equal(ours.cos_sin_cache, theirs.cos_sin_cache)
    positions = torch.tensor([0, 1, 17, 127, 5, 5, 64])
    query, key = torch.randn(7, 6 * 64).to(dtype), torch.randn(7, 2 * 64).to(dtype)
    close(
        ours(positions, query.clone(), key.clone()),
        theirs.forward_native(positions, query, key),
    )


def test_rope_against_complex_rotation_in_double_precision() -> None:
    ours, _ = rope_pair(rope_parameters={"rope_theta": 10_000.0})
    positions = torch.arange(100)
    query, key = torch.randn(100, 3 * 64), torch.randn(100, 64)
    inverse = 10_000.0 ** -(torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    turn = torch.polar(torch.ones(100, 32).double(), positions.double()[:, None] * inverse)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        first, second = x.double().view(100, -1, 64).chunk(2, -1)
        turned = torch.complex(first, second) * turn[:, None]
        return torch.cat([turned.real, turned.imag], -1).reshape(x.shape).float()

    expected = rotate(query), rotate(key)
    torch.testing.assert_close(ours(positions, query, key), expected, rtol=1e-4, atol=2e-5)


def test_rope_of_slices_of_a_packed_projection() -> None:
    ours, theirs = rope_pair()
    packed = torch.randn(5, 8 * 64)
    kept = packed.clone()
    query, key, value = packed.split([5 * 64, 2 * 64, 64], dim=-1)
    positions = torch.arange(5)
    expected = theirs.forward_native(positions, query.contiguous(), key.contiguous())
    close(ours(positions, query, key), expected)
    assert torch.equal(value, kept[:, 7 * 64 :])


def test_rope_of_heads_in_a_dimension_of_their_own() -> None:
    ours, theirs = rope_pair()
    positions = torch.arange(6)
    query, key = torch.randn(6, 4, 64), torch.randn(6, 2, 64)
    expected = theirs.forward_native(positions, query, key)
    close(ours(positions, query.clone(), key.clone()), expected)


def test_rope_without_a_key() -> None:
    ours, theirs = rope_pair()
    positions, query = torch.arange(6), torch.randn(6, 4 * 64)
    rotated, key = ours(positions, query.clone(), None)
    assert key is None
    close(rotated, theirs.forward_native(positions, query, None)[0])


def test_rope_with_a_table_of_another_dtype() -> None:
    ours, theirs = rope_pair(torch.float32)
    positions = torch.arange(6)
    query, key = torch.randn(6, 4 * 64).half(), torch.randn(6, 64).half()
    rotated = ours(positions, query.clone(), key.clone())
    assert [each.dtype for each in rotated] == [torch.float16, torch.float16]
    expected = theirs.forward_native(positions, query.float(), key.float())
    close(rotated, expected)


# ----------------------------------------------------------------------------- embedding

VOCABULARY, HIDDEN, ADDED = 100, 6, 8
"""100 rows are no multiple of the padding, so that every boundary of the mask occurs."""


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_embedding_over_ranks_is_a_lookup_in_the_whole_table(
    ranks: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one rank vLLM looks a token up as it is: no second part there.
    total = VOCABULARY + (ADDED if ranks > 1 else 0)
    table = torch.randn(total, HIDDEN)
    ids = torch.cat([torch.arange(total), torch.randint(total, (20,))]).to(dtype)
    module = vocab_parallel_embedding
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: ranks)
    for owner in (module, embedding):
        monkeypatch.setattr(owner, "tensor_model_parallel_all_reduce", lambda rows: rows)
    parts = []
    for rank in range(ranks):
        monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda rank=rank: rank)

        def build() -> Any:
            return module.VocabParallelEmbedding(
                total, HIDDEN, org_num_embeddings=VOCABULARY, padding_size=8 * ranks
            )

        ours, theirs = replaced_and_own(build)
        for layer in (ours, theirs):
            _load(layer, table)
        part = ours(ids)
        assert torch.equal(part, theirs.forward_native(ids.long()))
        parts.append(part)
    expected = torch.nn.functional.embedding(ids.long(), table)
    assert torch.equal(torch.stack(parts).sum(0), expected)


def _load(layer: Any, table: torch.Tensor) -> None:
    """Put the rank's rows of ``table`` where the layer's shard indices say."""
    shard = layer.shard_indices
    with torch.no_grad():
        layer.weight.fill_(math.nan)
        org = table[shard.org_vocab_start_index : shard.org_vocab_end_index]
        layer.weight[: len(org)] = org
        added = table[shard.added_vocab_start_index : shard.added_vocab_end_index]
        first = len(org) + shard.num_org_vocab_padding
        layer.weight[first : first + len(added)] = added
        layer.weight[0].nan_to_num_()


def test_output_projection_is_not_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = vocab_parallel_embedding
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
    monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
    layer = module.ParallelLMHead(32, 8)
    assert type(layer) is LAYERS["ParallelLMHead"]
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, dtype=torch.long))
