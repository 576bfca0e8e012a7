# SPDX-License-Identifier: Apache-2.0
"""Packed linear layers against ``torch.nn.functional.linear`` in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor import parameter
from vllm.model_executor.layers import vocab_parallel_embedding
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)
from vllm.model_executor.models.utils import StageMissingLayer

from vllm_kunlun.emulator.device import half_linear, huge_pages, linear_packing
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import forms

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (vocab_parallel_embedding, parameter):
        monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
        monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
    monkeypatch.setattr(
        vocab_parallel_embedding, "tensor_model_parallel_all_reduce", lambda rows: rows
    )
    torch.manual_seed(0)
    with set_current_vllm_config(VllmConfig()):
        yield


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def linear(
    rows: int, columns: int, *, bias: bool = False, dtype: torch.dtype = torch.float32
) -> torch.nn.Module:
    return randomised(
        ReplicatedLinear(columns, rows, bias=bias, params_dtype=dtype, disable_tp=True)
    )


def exact(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    wide = None if bias is None else bias.double()
    return F.linear(x.double(), weight.double(), wide).float()


# -------------------------------------------------------------------------------- values


@pytest.mark.parametrize("lead", [(1,), (16,), (3, 5), (0,)], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 17), (96, 64), (200, 129)])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_packed_layer(bias: bool, rows: int, columns: int, lead: tuple[int, ...]) -> None:
    layer = linear(rows, columns, bias=bias)
    weight = layer.weight.detach().clone()
    x = torch.randn(*lead, columns)
    expected = exact(x, weight, layer.bias)
    assert linear_packing.pack(layer) == 1
    got, _ = layer(x)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * columns**0.5)


BFLOAT16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 here"
)


@BFLOAT16
@pytest.mark.parametrize("lead", [(1,), (16,), (3, 5), (0,)], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 17), (200, 129)])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_packed_layer_in_bfloat16(
    bias: bool, rows: int, columns: int, lead: tuple[int, ...]
) -> None:
    """One rounding to 8 bits lies between it and float64, whatever the width of the sums."""
    layer = linear(rows, columns, bias=bias, dtype=torch.bfloat16)
    weight = layer.weight.detach().clone()
    x = torch.randn(*lead, columns, dtype=torch.bfloat16)
    expected = exact(x, weight, layer.bias)
    assert linear_packing.pack(layer) == 1 and layer.weight.is_meta
    got, _ = layer(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, rtol=2**-8, atol=1e-5 * columns**0.5)
    form = forms.form_of(layer)
    assert form is not None
    form.open()
    assert torch.equal(layer.weight, weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layers_of_16_bits_that_onednn_does_not_compute_in(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, name, lambda: False)
    model = torch.nn.ModuleDict({
        "linear": linear(24, 32, bias=True, dtype=dtype),
        "lm_head": randomised(ParallelLMHead(64, 32, params_dtype=dtype)),
    })  # fmt: skip
    assert linear_packing.pack(model) == 0
    x, head = torch.randn(2, 32).to(dtype), model["lm_head"]
    assert type(model["linear"].quant_method) is half_linear.HalfLinearMethod
    op = torch.ops.vllm_kunlun_emulated.half_linear
    assert torch.equal(model["linear"](x)[0], op(x, *model["linear"].parameters()))
    assert torch.equal(head.quant_method.apply(head, x), op(x, head.weight, None))


def test_packed_layer_on_a_slice_of_a_wider_tensor() -> None:
    layer = linear(24, 16)
    weight = layer.weight.detach().clone()
    x = torch.randn(5, 40)[:, 3:19]
    linear_packing.pack(layer)
    torch.testing.assert_close(layer(x)[0], exact(x, weight, None), rtol=1e-5, atol=5e-5)


def test_memory_is_that_of_what_a_step_reads() -> None:
    """A packed weight, its bias, and a layer that is not packed: not the packed one's old form."""
    model = torch.nn.ModuleList([linear(40, 24, bias=True), torch.nn.LayerNorm(8)])
    assert linear_packing.pack(model) == 1
    pieces = dict(linear_packing.memory(model))
    plain = [model[0].bias, model[1].weight, model[1].bias]
    assert all(pieces.pop(each.data_ptr()) == each.nbytes for each in plain)
    (packed_bytes,) = pieces.values()
    assert packed_bytes >= 40 * 24 * 4


class Wrapped(torch.nn.Module):
    """A layer around another whose method it gives as its own, as vLLM's with adapters do."""

    def __init__(self, base: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = base

    @property
    def quant_method(self) -> object:
        return self.base_layer.quant_method


def test_memory_of_a_wrapped_layer_is_counted_once() -> None:
    layer = linear(40, 24)
    linear_packing.pack(layer)
    assert linear_packing.memory(Wrapped(layer)) == linear_packing.memory(layer)


def test_layers_do_not_share_a_packed_weight() -> None:
    model = torch.nn.ModuleList([linear(8, 8), linear(8, 8), linear(8, 8)])
    weights = [layer.weight.detach().clone() for layer in model]
    assert linear_packing.pack(model) == 3
    x = torch.randn(2, 8)
    for layer, weight in zip(model, weights, strict=True):
        torch.testing.assert_close(layer(x)[0], exact(x, weight, None), rtol=1e-5, atol=5e-5)


def test_the_op_is_what_torch_expects_of_an_op() -> None:
    layer = linear(6, 4, bias=True)
    linear_packing.pack(layer)
    torch.library.opcheck(
        torch.ops.vllm_kunlun_emulated.packed_linear.default,
        (torch.randn(3, 4), layer.quant_method.handle, 6, layer.bias),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


def test_packed_layer_inside_a_compiled_graph() -> None:
    layer = linear(6, 4)
    weight = layer.weight.detach().clone()
    linear_packing.pack(layer)
    compiled = torch.compile(lambda x: layer(x)[0] * 2, backend="eager", fullgraph=True)
    x = torch.randn(3, 4)
    torch.testing.assert_close(compiled(x), 2 * exact(x, weight, None), rtol=1e-5, atol=5e-5)


# -------------------------------------------------------------------------------- memory


def test_one_copy_of_a_weight_is_kept() -> None:
    layer = linear(24, 16)
    linear_packing.pack(layer)
    assert layer.weight.is_meta
    assert layer.weight.shape == (24, 16) and layer.weight.dtype == torch.float32
    assert not layer.weight.requires_grad


def test_packing_again_finds_nothing() -> None:
    model = torch.nn.ModuleList([linear(8, 8), linear(8, 8)])
    assert linear_packing.pack(model) == 2
    assert linear_packing.pack(model) == 0


# ------------------------------------------------------------------------ weights at run time


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 17), (96, 64), (200, 129)])
def test_the_weight_comes_out_as_it_went_in(rows: int, columns: int) -> None:
    layer = linear(rows, columns)
    weight, kind, loader = layer.weight.detach().clone(), type(layer.weight), layer.weight_loader
    linear_packing.pack(layer)
    form = forms.form_of(layer)
    assert form is not None and form.partial
    form.open()
    assert torch.equal(layer.weight, weight)
    assert type(layer.weight) is kind and layer.weight.weight_loader == loader


def test_a_weight_that_was_written_is_packed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes into huge pages, as it did when the model was loaded."""
    gathered: list[tuple[int, int]] = []
    monkeypatch.setattr(huge_pages, "gather", gathered.extend)
    layer = linear(24, 16)
    linear_packing.pack(layer)
    known, handle, form = layer.weight, layer.quant_method.handle, forms.form_of(layer)
    assert form is not None
    weight = torch.randn(24, 16)
    form.open()
    assert linear_packing._packed_weights[handle] is None, "two copies"
    layer.weight.data.copy_(weight)
    form.close(fixed=True)
    assert layer.weight is known and known.is_meta and layer.quant_method.handle == handle
    packed = linear_packing._packed_weights[handle]
    assert packed is not None and gathered == [packed.memory()]
    x = torch.randn(5, 16)
    torch.testing.assert_close(layer(x)[0], exact(x, weight, None), rtol=1e-5, atol=5e-5)


def test_a_layer_that_is_hidden_computes() -> None:
    layer = linear(24, 16)
    weight = layer.weight.detach().clone()
    linear_packing.pack(layer)
    form = forms.form_of(layer)
    assert form is not None
    form.open()
    form.hide()
    form.hide()
    x = torch.randn(5, 16)
    torch.testing.assert_close(layer(x)[0], exact(x, weight, None), rtol=1e-5, atol=5e-5)


def test_a_layer_that_was_converted_before_stays_refused() -> None:
    layer = linear(8, 8)
    forms.lose(layer, "m.o_proj")
    assert linear_packing.pack(layer) == 1
    assert layer.weight.is_meta, "two copies"
    with pytest.raises(UnsupportedError, match=r"^m\.o_proj"):
        forms.form_of(layer).show()  # type: ignore[union-attr]


# --------------------------------------------------------------------- output projections


class Model(torch.nn.Module):
    """An embedding, one linear layer and an output projection, tied as vLLM's models tie them."""

    def __init__(self, tie: str) -> None:
        super().__init__()
        self.embed_tokens = VocabParallelEmbedding(50, 16)
        self.mlp = ReplicatedLinear(16, 16, bias=False, disable_tp=True)
        if tie == "module":
            self.lm_head = self.embed_tokens
        else:
            self.lm_head = ParallelLMHead(50, 16)
            if tie == "weight":
                self.lm_head = self.lm_head.tie_weights(self.embed_tokens)


@pytest.mark.parametrize("tie", ["module", "weight", "none"])
def test_output_projection(tie: str) -> None:
    model = randomised(Model(tie))
    rows = model.embed_tokens.weight.detach().clone()
    projection = model.lm_head.weight.detach().clone()
    assert torch.equal(rows, projection) == (tie != "none")
    count = linear_packing.pack(model)
    assert isinstance(count, int) and count == 2

    hidden = torch.randn(3, 16)
    logits = model.lm_head.quant_method.apply(model.lm_head, hidden, bias=None)
    expected = exact(hidden, projection, None)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=5e-5)

    ids = torch.tensor([0, 7, 49, 7])
    assert torch.equal(model.embed_tokens(ids), rows[ids]), "the embedding lost its rows"
    assert not model.embed_tokens.weight.is_meta
    assert model.lm_head.weight.is_meta == (tie == "none")

    form, other = forms.form_of(model.lm_head), torch.randn(50, 16)
    assert form is not None
    form.open()
    model.lm_head.weight.data[:50].copy_(other)
    form.close(fixed=True)
    logits = model.lm_head.quant_method.apply(model.lm_head, hidden, bias=None)
    torch.testing.assert_close(logits[:, :50], exact(hidden, other, None), rtol=1e-5, atol=5e-5)
    if tie != "none":
        assert torch.equal(model.embed_tokens(ids), other[ids])


# ---------------------------------------------------------------------------- left alone


def test_float16_stays() -> None:
    layer = linear(8, 8, dtype=torch.float16)
    assert linear_packing.pack(layer) == 0
    assert not layer.weight.is_meta


def test_bfloat16_stays_where_onednn_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    model = torch.nn.ModuleList([linear(8, 8, dtype=torch.bfloat16), linear(8, 8)])
    assert linear_packing.pack(model) == 1
    assert not model[0].weight.is_meta and model[1].weight.is_meta


def test_what_is_no_layer_of_vllm_stays() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Embedding(4, 4))
    assert linear_packing.pack(model) == 0
    assert not model[0].weight.is_meta


def test_a_layer_that_a_pooling_model_leaves_out_stays() -> None:
    model = torch.nn.Module()
    model.lm_head = StageMissingLayer("output", ParallelLMHead(50, 16).to("meta"))
    model.mlp = linear(8, 8)
    assert linear_packing.pack(model) == 1


def test_an_embedding_that_is_no_output_projection_stays() -> None:
    embedding = randomised(VocabParallelEmbedding(50, 16))
    assert linear_packing.pack(torch.nn.ModuleDict({"embed_tokens": embedding})) == 0
    assert not embedding.weight.is_meta


def test_without_onednn_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer = linear(8, 8)
    assert linear_packing.pack(layer) == 0
    assert not layer.weight.is_meta
