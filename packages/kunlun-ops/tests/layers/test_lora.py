# SPDX-License-Identifier: Apache-2.0
"""The step's adapters against vLLM's own metadata, and the products against float64."""

from __future__ import annotations

import inspect
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.config.lora import LoRAConfig
from vllm.lora import utils as lora_utils
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.utils import compute_meta, convert_mapping
from vllm.model_executor.layers import vocab_parallel_embedding

from vllm_kunlun.ops.layers import embedding, register_layers
from vllm_kunlun.ops.layers.lora import (
    KunlunPunicaWrapper,
    KunlunVocabParallelEmbeddingWithLoRA,
    register_lora_layers,
)
from vllm_kunlun.ops.torch_ops.lora import CLUSTER_TOKENS
from vllm_kunlun.ops.vendor_ops import library
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError

TOKENS, REQUESTS, VOCABULARY = 320, 8, 50
SLOTS: list[int | None] = [7, None, 3]
"""Which adapter lies in which slot."""
STEPS = {
    "mixed": ([7] * 3 + [0] * 2 + [3] * 4 + [7], [7, 0, 3, 7]),
    "decode": ([3, 7, 0, 3, 3], [3, 7, 0, 3, 3]),
    "one": ([3] * 6, [3]),
    "none": ([0] * 5, [0, 0]),
    "long": ([0] * 100 + [7] * 150 + [3] * 3, [0, 7, 3]),
    "several rows a request": ([7, 7, 7, 0], [7, 7, 7, 0]),
}
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def wrapper(step: str | None = None) -> KunlunPunicaWrapper:
    made = KunlunPunicaWrapper(TOKENS, REQUESTS, "cpu")
    if step is not None:
        take(made, step)
    return made


def take(made: KunlunPunicaWrapper, step: str) -> None:
    made.update_metadata(LoRAMapping(*STEPS[step], is_prefill=True), SLOTS, 4, VOCABULARY)


def slots_of(numbers: list[int]) -> list[int]:
    return [SLOTS.index(number) if number else -1 for number in numbers]


def delta(x: Tensor, lora_a: Tensor, lora_b: Tensor, slots: list[int]) -> Tensor:
    """``x A^T B^T`` in float64, zero for a row without an adapter."""
    rows = []
    for row, slot in zip(x.double(), slots, strict=True):
        product = lora_b[slot, 0].double() @ (lora_a[slot, 0].double() @ row)
        rows.append(product if slot >= 0 else torch.zeros_like(product))
    return torch.stack(rows)


def check(y: Tensor, before: Tensor, change: Tensor, slots: list[int]) -> None:
    expected = before.double() + change
    tolerance = TOLERANCES[y.dtype] * float(expected.abs().max())
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=0)
    without = torch.tensor(slots) < 0
    assert torch.equal(y[without], before[without])


# ----------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("step", STEPS)
def test_metadata_is_vllms(step: str) -> None:
    made = wrapper("long")  # what a longer step left behind must be gone
    take(made, step)
    mapping = LoRAMapping(*STEPS[step])
    # Until 0.16 a vocabulary may grow by an adapter's tokens, and has a first row for them.
    grown = [0] if "extra_vocab_size" in inspect.signature(convert_mapping).parameters else []
    base, sampler, _, embeddings, _ = convert_mapping(
        mapping, SLOTS, 4, VOCABULARY, *grown, torch.device("cpu")
    )
    _, lengths, indices, segments, _, _, none = compute_meta(base)
    assert made.token_lora_indices.tolist() == base.tolist()
    assert made.sampler_indices.tolist() == sampler.tolist()
    first_rows = made._embeddings_indices.view(-1, TOKENS)[-1]
    assert first_rows[: len(base)].tolist() == embeddings.view(-1, len(base))[-1].tolist()
    assert made._segment_lengths.tolist() == lengths.tolist() + [0] * (REQUESTS - segments)
    assert made._segment_indices.tolist() == indices.tolist() + [-1] * (REQUESTS - segments)
    assert made._active.item() is not none
    assert (made._token_lora_indices[len(base) :] == -1).all()
    assert (made._sampler_indices[len(sampler) :] == -1).all()


def test_metadata_stays_at_its_place() -> None:
    """A captured graph and compiled code read the tensors that they were made with."""
    made = wrapper("mixed")
    places = [tensor.data_ptr() for tensor in (*made._segments, made._sampler_indices)]
    take(made, "decode")
    assert places == [tensor.data_ptr() for tensor in (*made._segments, made._sampler_indices)]


def test_an_adapter_in_no_slot_is_named() -> None:
    with pytest.raises(KunlunError, match=r"adapters \[5\].*\[7, 0, 3\]"):
        wrapper().update_metadata(LoRAMapping((5, 7), (5, 7)), SLOTS, 4, VOCABULARY)


# ----------------------------------------------------------------------------------- products


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("step", STEPS)
def test_linear(step: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    slots = slots_of(STEPS[step][0])
    slices = (40, 24, 24)
    lora_a = tuple(torch.randn(3, 1, 8, 36).to(dtype) for _ in slices)
    lora_b = tuple(torch.randn(3, 1, columns, 8).to(dtype) for columns in slices)
    x = torch.randn(len(slots), 36).to(dtype)
    y = torch.randn(len(slots), sum(slices)).to(dtype)
    before = y.clone()
    wrapper(step).add_lora_linear(y, x, lora_a, lora_b, 0.5, slices)
    parts = [delta(x, a, b, slots) for a, b in zip(lora_a, lora_b, strict=True)]
    check(y, before, 0.5 * torch.cat(parts, 1), slots)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_sharded_halves(dtype: torch.dtype) -> None:
    """vLLM's fully sharded layers: a float32 buffer goes over the ranks between the two."""
    torch.manual_seed(0)
    slots = slots_of(STEPS["mixed"][0])
    lora_a = (torch.randn(3, 1, 8, 36).to(dtype),)
    lora_b = (torch.randn(3, 1, 20, 8).to(dtype),)
    x, y = torch.randn(len(slots), 36).to(dtype), torch.randn(len(slots), 60).to(dtype)
    before, buffer = y.clone(), torch.zeros(1, len(slots), 8)
    made = wrapper("mixed")
    made.add_shrink(buffer, x, lora_a, 1.0)
    made.add_expand(y, buffer, lora_b, (20,), offset_start=20, add_input=True)
    change = torch.zeros(len(slots), 60, dtype=torch.float64)
    change[:, 20:40] = delta(x, *lora_a, *lora_b, slots)
    check(y, before, change, slots)


def test_logits_rows_have_their_own_adapters() -> None:
    torch.manual_seed(0)
    slots = slots_of(STEPS["mixed"][1])
    lora_a, lora_b = torch.randn(3, 1, 8, 36), torch.randn(3, 1, VOCABULARY, 8)
    x, y = torch.randn(len(slots), 36), torch.randn(len(slots), VOCABULARY + 14)
    before = y.clone()
    wrapper("mixed").add_lora_logits(y, x, lora_a, lora_b, 1.0)
    change = torch.zeros_like(y, dtype=torch.float64)
    change[:, :VOCABULARY] = delta(x, lora_a, lora_b, slots)
    check(y, before, change, slots)


def test_padding_after_the_step_is_not_touched() -> None:
    """A captured graph runs with more rows than the step has tokens."""
    torch.manual_seed(0)
    slots = slots_of(STEPS["decode"][0]) + [-1] * 3
    lora_a, lora_b = torch.randn(3, 1, 8, 36), torch.randn(3, 1, 20, 8)
    x, y = torch.randn(len(slots), 36), torch.randn(len(slots), 20)
    before = y.clone()
    made = wrapper("decode")
    made.add_lora_linear(y, x, (lora_a,), (lora_b,), 1.0, (20,))
    check(y, before, delta(x, lora_a, lora_b, slots), slots)
    y = before.clone()
    made.add_lora_logits(y, x, lora_a, lora_b, 1.0)
    check(y, before, delta(x, lora_a, lora_b, slots), slots)


def test_compiled_code_serves_the_next_steps_adapters() -> None:
    torch.manual_seed(0)
    lora_a, lora_b = (torch.randn(3, 1, 8, 36),), (torch.randn(3, 1, 20, 8),)
    made = wrapper("mixed")

    @torch.compile(fullgraph=True, backend="eager", dynamic=True)
    def layer(x: Tensor, y: Tensor) -> Tensor:
        y = y + 1
        made.add_lora_linear(y, x, lora_a, lora_b, 1.0, (20,))
        return y

    # One compilation for all: vLLM keeps the first and drops its guards.
    with torch.compiler.set_stance("default"):
        for count, step in enumerate(("mixed", "decode", "none", "long")):
            take(made, step)
            slots = slots_of(STEPS[step][0])
            x, y = torch.randn(len(slots), 36), torch.randn(len(slots), 20)
            if count:
                with torch.compiler.set_stance("fail_on_recompile"):
                    got = layer(x, y)
            else:
                got = layer(x, y)
            check(got, y + 1, delta(x, *lora_a, *lora_b, slots), slots)


class Counted:
    """The library that is there, and how often each of its functions was called."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        return getattr(self.library, name)


@pytest.mark.parametrize(
    ("tokens", "units"), [(CLUSTER_TOKENS, "cluster"), (CLUSTER_TOKENS + 1, "sdnn")]
)
def test_the_number_of_tokens_chooses_the_function(tokens: int, units: str) -> None:
    made = wrapper()
    made.update_metadata(LoRAMapping((3,) * tokens, (3,)), SLOTS, 4, VOCABULARY)
    counted = Counted(library.libraries().xspeedgate_ops)
    lora_a, lora_b = (torch.ones(3, 1, 8, 4),) * 2, (torch.ones(3, 1, 4, 8),) * 2
    with library.use_libraries(xspeedgate_ops=counted):
        made.add_lora_linear(
            torch.ones(tokens, 8), torch.ones(tokens, 4), lora_a, lora_b, 1.0, (4, 4)
        )
    assert counted.calls == {f"sgmv_shrink_{units}": 2, f"sgmv_expand_{units}": 2}


def test_a_step_without_adapters_launches_nothing() -> None:
    made, counted = wrapper("none"), Counted(None)
    x, y, a, b = torch.ones(5, 4), torch.ones(5, 6), torch.ones(3, 1, 8, 4), torch.ones(3, 1, 6, 8)
    with library.use_libraries(xspeedgate_ops=counted):
        made.add_lora_linear(y, x, (a,), (b,), 1.0, (6,))
        made.add_shrink(torch.zeros(1, 5, 8), x, (a,), 1.0)
        made.add_expand(y, torch.ones(1, 5, 8), (b,), (6,))
        made.add_lora_embedding(y, torch.ones(5, 8), b)
        made.add_lora_logits(y[:2], x[:2], a, b, 1.0)
    assert counted.calls == {}
    assert torch.equal(y, torch.ones(5, 6))


# ----------------------------------------------------------------------------------- embedding


def embedding_layer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """vLLM's embedding, replaced by ours, outside a process group."""
    for module in (vocab_parallel_embedding, embedding):
        if hasattr(module, "get_tensor_model_parallel_rank"):
            monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
            monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        layer = vocab_parallel_embedding.VocabParallelEmbedding(VOCABULARY, 24)
    torch.nn.init.normal_(layer.weight)
    return layer


def test_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    base, made = embedding_layer(monkeypatch), wrapper("mixed")
    config = LoRAConfig(max_lora_rank=8, max_loras=3, lora_dtype=torch.float32)
    layer = lora_utils.from_layer(base, 3, config, [])
    assert type(layer) is KunlunVocabParallelEmbeddingWithLoRA
    layer.set_mapping(made)
    matrices = {slot: (torch.randn(5, VOCABULARY), torch.randn(24, 5)) for slot in (0, 2)}
    for slot, (a, b) in matrices.items():
        layer.set_lora(slot, a, b)
    slots = slots_of(STEPS["mixed"][0])
    ids = torch.randint(VOCABULARY, (len(slots),))
    got = layer(ids)
    for row, token, slot in zip(got, ids, slots, strict=True):
        expected = base.weight[token]
        if slot < 0:
            assert torch.equal(row, expected)
        else:
            a, b = matrices[slot]
            torch.testing.assert_close(row, expected + b @ a[:, token])


def test_registering_layers_twice_changes_nothing() -> None:
    register_lora_layers()
    before = tuple(lora_utils._all_lora_classes)
    register_lora_layers()
    assert tuple(lora_utils._all_lora_classes) == before


def test_a_table_in_which_the_first_that_fits_is_taken() -> None:
    with mock.patch.object(lora_utils, "_all_lora_classes", (object,)):
        for _ in range(2):
            register_lora_layers()
            assert (KunlunVocabParallelEmbeddingWithLoRA, object) == lora_utils._all_lora_classes


def test_the_wrapper_registers_the_layers() -> None:
    with mock.patch.object(lora_utils, "_all_lora_classes", set()) as classes:
        wrapper()
        assert classes == {KunlunVocabParallelEmbeddingWithLoRA}


# ----------------------------------------------------------------------------------- refusals


def test_what_the_functions_cannot_do_is_refused() -> None:
    made = wrapper("one")
    x, y, a, b = torch.ones(6, 4), torch.ones(6, 6), torch.ones(3, 1, 8, 4), torch.ones(3, 1, 6, 8)
    with pytest.raises(UnsupportedError, match="add_inputs=False"):
        made.add_expand(y, torch.ones(1, 6, 8), (b,), (6,), add_inputs=False)
    with pytest.raises(UnsupportedError, match="add_inputs=False"):
        made.add_lora_embedding(y, torch.ones(6, 8), b, add_inputs=False)
    with pytest.raises(UnsupportedError, match="buffer"):
        made.add_lora_linear(y, x, (a,), (b,), 1.0, (6,), buffer=torch.zeros(1, 6, 8))
    for function in (made.add_lora_fused_moe, made.apply_lora_full_linear):
        with pytest.raises(UnsupportedError, match="Merge the adapter"):
            function(y, x)
