# SPDX-License-Identifier: Apache-2.0
"""Both backends, driven as vLLM's runner drives them, against loops in float64.

A case is a list of requests ``(query tokens, tokens already in the cache)``. Pages are handed out
in random order, and memory that no request owns is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.kv_cache_interface import MLAAttentionSpec
from vllm.v1.worker.workspace import init_workspace_manager, reset_workspace_manager

from vllm_kunlun.mla import flashmla, metadata
from vllm_kunlun.mla.flashmla import FlashMLABackend
from vllm_kunlun.mla.flashmla_sparse import FlashMLASparseBackend
from vllm_kunlun.platforms.errors import UnsupportedError

HEADS, LATENT, ROPE, NOPE, VALUE, BLOCK, TOPK = 3, 40, 16, 24, 32, 64, 20
SCALE = 0.3
TOLERANCES = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
BATCHES = {
    "prefill": [(7, 0), (1, 0), (70, 0)],
    "decode": [(1, 0), (1, 63), (1, 64), (1, 200)],
    "mixed": [(1, 5), (1, 140), (9, 0), (20, 0)],
    "context": [(1, 12), (8, 240), (5, 0), (17, 31)],
    "two queries each": [(2, 3), (2, 130)],
    "three queries each": [(3, 0), (3, 64), (3, 190)],
}


@pytest.fixture(autouse=True)
def _workspace():
    init_workspace_manager(torch.device("cpu"))
    yield
    reset_workspace_manager()


@dataclass
class Batch:
    """Requests with random latents; ``rows[b]`` is the cache's content of request ``b``."""

    requests: list[tuple[int, int]]
    dtype: torch.dtype
    speculative_tokens: int = 0

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)
        self.lengths = [new + old for new, old in self.requests]
        self.rows = [self.normal(length, LATENT + ROPE) for length in self.lengths]
        self.new = torch.cat(
            [rows[old:] for rows, (_, old) in zip(self.rows, self.requests, strict=True)]
        )
        self.query = self.normal(len(self.new), HEADS, NOPE + ROPE)
        self.weight = self.normal(HEADS * (NOPE + VALUE), LATENT) / LATENT**0.5
        columns = -(-max(self.lengths) // BLOCK)
        blocks = len(self.requests) * columns + 1
        order = torch.randperm(blocks, generator=self.generator)
        self.table = order[: len(self.requests) * columns].view(-1, columns).int()
        self.cache = torch.full((blocks, BLOCK, LATENT + ROPE), torch.nan, dtype=self.dtype)
        slots = []
        for table, rows, (_, old) in zip(self.table.long(), self.rows, self.requests, strict=True):
            position = torch.arange(len(rows))
            place = table[position // BLOCK], position % BLOCK
            self.cache[place[0][:old], place[1][:old]] = rows[:old]
            slots.append((place[0] * BLOCK + place[1])[old:])
        self.slots = torch.cat(slots)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator).to(self.dtype)

    def step(self) -> CommonAttentionMetadata:
        query_lens = torch.tensor([new for new, _ in self.requests], dtype=torch.int32)
        lod = torch.cat([query_lens.new_zeros(1), query_lens.cumsum(0).int()])
        lengths = torch.tensor(self.lengths, dtype=torch.int32)
        return CommonAttentionMetadata(
            query_start_loc=lod.clone(),
            query_start_loc_cpu=lod,
            seq_lens=lengths.clone(),
            _seq_lens_cpu=lengths,
            num_reqs=len(self.requests),
            num_actual_tokens=len(self.new),
            max_query_len=int(query_lens.max()),
            max_seq_len=max(self.lengths),
            block_table_tensor=self.table,
            slot_mapping=self.slots,
        )

    def configuration(self):
        """What the builders read of vLLM's configuration."""
        speculative = None
        if self.speculative_tokens:
            speculative = SimpleNamespace(
                num_speculative_tokens=self.speculative_tokens, parallel_drafting=False
            )
        return SimpleNamespace(
            speculative_config=speculative,
            scheduler_config=SimpleNamespace(max_num_seqs=8),
            cache_config=SimpleNamespace(block_size=BLOCK),
            model_config=SimpleNamespace(max_model_len=16),
            parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        )

    def run(self, backend, indexer=None, scale: float = SCALE) -> torch.Tensor:
        """Attention of the step, ``[T, H V]``."""
        spec = MLAAttentionSpec(
            block_size=BLOCK, num_kv_heads=1, head_size=LATENT + ROPE, dtype=self.dtype
        )
        assert self.cache.shape == backend.get_kv_cache_shape(
            len(self.cache), BLOCK, 1, LATENT + ROPE
        )
        builder = backend.get_builder_cls()(
            spec, ["layer"], self.configuration(), torch.device("cpu")
        )
        layer = implementation(backend, self.weight, indexer, scale)
        output = self.query.new_full((len(self.new) + 2, HEADS * VALUE), torch.nan)
        latent, rope = self.new.split([LATENT, ROPE], -1)
        padded = [
            torch.nn.functional.pad(part, [0, 0] * (part.dim() - 1) + [0, 2])
            for part in (self.query, latent, rope.unsqueeze(1))
        ]
        layer.forward(None, *padded, self.cache, builder.build(0, self.step()), output)
        return output[: len(self.new)]

    def expected(self, chosen=None) -> torch.Tensor:
        """The same from the model's own form, heads multiplied up, in float64."""
        weight = self.weight.double().view(HEADS, NOPE + VALUE, LATENT)
        outputs, token = [], 0
        for rows, (new, old) in zip(self.rows, self.requests, strict=True):
            latent, rope = rows.double().split([LATENT, ROPE], -1)
            heads = torch.einsum("hol,sl->hso", weight, latent)
            key = torch.cat([heads[..., :NOPE], rope.expand(HEADS, -1, -1)], -1)
            for position in range(old, old + new):
                seen = torch.arange(position + 1)
                if chosen is not None:
                    seen = seen[torch.isin(seen, chosen[token])]
                query = self.query[token].double()
                scores = torch.einsum("hd,hsd->hs", query, key[:, seen]) * SCALE
                outputs.append(
                    torch.einsum("hs,hsv->hv", scores.softmax(-1), heads[:, seen, NOPE:])
                )
                token += 1
        return torch.stack(outputs).flatten(1)


def implementation(backend, weight, indexer=None, scale=SCALE, value=VALUE, **changes):
    projection = torch.nn.Linear(LATENT, weight.shape[0], bias=False, dtype=weight.dtype)
    projection.weight.data = weight
    projection.quant_method = None
    forward = projection.forward
    projection.forward = lambda x: (forward(x), None)
    arguments = {
        "num_heads": HEADS,
        "head_size": LATENT + ROPE,
        "scale": scale,
        "num_kv_heads": 1,
        "alibi_slopes": None,
        "sliding_window": None,
        "kv_cache_dtype": "auto",
        "logits_soft_cap": None,
        "attn_type": "decoder",
        "kv_sharing_target_layer_name": None,
        "q_lora_rank": None,
        "kv_lora_rank": LATENT,
        "qk_nope_head_dim": NOPE,
        "qk_rope_head_dim": ROPE,
        "qk_head_dim": NOPE + ROPE,
        "v_head_dim": value,
        "kv_b_proj": projection.requires_grad_(False),
        "indexer": indexer,
        **changes,
    }
    with set_current_vllm_config(VllmConfig()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(flashmla, "context_capacity_tokens", lambda config: BLOCK)
        made = backend.get_impl_cls()(**arguments)
    made.process_weights_after_loading(weight.dtype)
    return made


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", BATCHES)
def test_dense(name, dtype, monkeypatch):
    """The context of at most 240 tokens is read one page of each request at a time."""
    monkeypatch.setattr(metadata, "context_capacity_tokens", lambda config: 2 * BLOCK)
    batch = Batch(BATCHES[name], dtype)
    came = batch.run(FlashMLABackend)
    torch.testing.assert_close(
        came.double(), batch.expected(), atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype]
    )


@pytest.mark.parametrize("name", ["two queries each", "three queries each"])
def test_speculative_queries_are_rows_of_decode(name):
    batch = Batch(BATCHES[name], torch.float32, speculative_tokens=2)
    spec = MLAAttentionSpec(
        block_size=BLOCK, num_kv_heads=1, head_size=LATENT + ROPE, dtype=torch.float32
    )
    builder = FlashMLABackend.get_builder_cls()(
        spec, ["layer"], batch.configuration(), torch.device("cpu")
    )
    built = builder.build(0, batch.step())
    assert built.prefill is None
    assert built.decode.seq_lens.tolist() == [
        old + query + 1 for new, old in batch.requests for query in range(new)
    ]
    torch.testing.assert_close(
        batch.run(FlashMLABackend).double(), batch.expected(), atol=2e-5, rtol=2e-5
    )


def test_more_rows_than_decode_takes_are_a_prefill():
    batch = Batch(BATCHES["two queries each"], torch.float32, speculative_tokens=1)
    configuration = batch.configuration()
    configuration.scheduler_config.max_num_seqs = 1000
    spec = MLAAttentionSpec(
        block_size=BLOCK, num_kv_heads=1, head_size=LATENT + ROPE, dtype=torch.float32
    )
    builder = FlashMLABackend.get_builder_cls()(spec, ["layer"], configuration, torch.device("cpu"))
    assert builder.build(0, batch.step()).decode is None


@pytest.mark.parametrize("speculative_tokens", [0, 1, 3])
@pytest.mark.parametrize("name", BATCHES)
def test_sparse(name, speculative_tokens):
    batch = Batch(BATCHES[name], torch.float32, speculative_tokens)
    chosen = torch.full((len(batch.new) + 5, TOPK), -1, dtype=torch.int32)
    token = 0
    for new, old in batch.requests:
        for position in range(old, old + new):
            picked = torch.randperm(position + 1, generator=batch.generator)[:TOPK]
            chosen[token, : len(picked)] = picked.int()
            token += 1
    came = batch.run(FlashMLASparseBackend, SimpleNamespace(topk_indices_buffer=chosen))
    torch.testing.assert_close(came.double(), batch.expected(chosen), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("backend", [FlashMLABackend, FlashMLASparseBackend])
@pytest.mark.parametrize("name", ["decode", "mixed"])
def test_int8_products(name, backend, monkeypatch):
    """Off by what rounding of weights to 127 steps explains, and not the float result."""
    monkeypatch.setenv("VLLM_KUNLUN_ENABLE_INT8_BMM", "1")
    batch = Batch(BATCHES[name], torch.float32)
    positions = torch.arange(max(batch.lengths), dtype=torch.int32)
    everything = SimpleNamespace(topk_indices_buffer=positions.expand(len(batch.new), -1).clone())
    for row, length in enumerate(_visible(batch)):
        everything.topk_indices_buffer[row, length:] = -1
    error = (batch.run(backend, everything).double() - batch.expected()).abs().max()
    assert 1e-5 < error < 0.05


def _visible(batch):
    return [old + query + 1 for new, old in batch.requests for query in range(new)]


def test_values_wider_than_keys_are_refused():
    value = NOPE + ROPE + 1
    weight = torch.zeros(HEADS * (NOPE + value), LATENT)
    with pytest.raises(UnsupportedError, match=r"v_head_dim=41.*VLLM_MLA_DISABLE=1"):
        implementation(FlashMLABackend, weight, value=value)


@pytest.mark.parametrize("option", ["alibi_slopes", "sliding_window", "logits_soft_cap"])
def test_what_no_function_has_is_refused(option):
    weight = torch.zeros(HEADS * (NOPE + VALUE), LATENT)
    with pytest.raises(UnsupportedError, match=option):
        implementation(FlashMLABackend, weight, **{option: 3})


def test_profiling_run_gives_zeros():
    batch = Batch(BATCHES["prefill"], torch.float32)
    layer = implementation(FlashMLABackend, batch.weight)
    output = torch.full((len(batch.new), HEADS * VALUE), torch.nan)
    latent, rope = batch.new.split([LATENT, ROPE], -1)
    layer.forward(None, batch.query, latent, rope.unsqueeze(1), torch.empty(0), None, output)
    assert not output.any()
