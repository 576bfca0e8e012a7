# SPDX-License-Identifier: Apache-2.0
"""A batch for either backend, driven as vLLM's runner drives it, and its answer in float64.

A case is a list of requests ``(query tokens, tokens already in the cache)``. Pages are handed out
in random order, and memory that no request owns is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.recorder import names_called
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.kv_cache_interface import MLAAttentionSpec
from vllm.v1.worker.workspace import init_workspace_manager, reset_workspace_manager

from vllm_kunlun.mla import flashmla
from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

HEADS, LATENT, ROPE, NOPE, VALUE, BLOCK = 3, 40, 16, 24, 32, 64
SCALE = 0.3
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


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A :class:`Batch` by name, or of given requests."""

    def make(requests, dtype=torch.float32, speculative_tokens=0):
        requests = BATCHES[requests] if isinstance(requests, str) else requests
        return Batch(requests, dtype, speculative_tokens)

    return make


@pytest.fixture
def implementation() -> Callable[..., Any]:
    """One layer of a backend, its weights processed; sizes and options may be changed."""
    return _implementation


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the vendor's functions, in the order in which the test comes to call them."""
    return names_called(monkeypatch)


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
            num_reqs=len(self.requests),
            num_actual_tokens=len(self.new),
            max_query_len=int(query_lens.max()),
            max_seq_len=max(self.lengths),
            block_table_tensor=self.table,
            slot_mapping=self.slots,
            **{SEQ_LENS: lengths},
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

    def builder(self, backend, max_num_seqs: int = 8):
        """The backend's builder for this batch's configuration."""
        spec = MLAAttentionSpec(
            block_size=BLOCK, num_kv_heads=1, head_size=LATENT + ROPE, dtype=self.dtype
        )
        configuration = self.configuration()
        configuration.scheduler_config.max_num_seqs = max_num_seqs
        return backend.get_builder_cls()(spec, ["layer"], configuration, torch.device("cpu"))

    def run(self, backend, indexer=None, scale: float = SCALE) -> torch.Tensor:
        """Attention of the step, ``[T, H V]``."""
        if hasattr(backend, "get_kv_cache_shape"):  # in 0.33 the cache's specification says it
            assert self.cache.shape == backend.get_kv_cache_shape(
                len(self.cache), BLOCK, 1, LATENT + ROPE
            )
        builder = self.builder(backend)
        layer = _implementation(backend, self.weight, indexer, scale)
        output = self.query.new_full((len(self.new) + 2, HEADS * VALUE), torch.nan)
        latent, rope = self.new.split([LATENT, ROPE], -1)
        padded = [
            torch.nn.functional.pad(part, [0, 0] * (part.dim() - 1) + [0, 2])
            for part in (self.query, latent, rope.unsqueeze(1))
        ]
        layer.forward(None, *padded, self.cache, builder.build(0, self.step()), output)
        return output[: len(self.new)]

    def visible(self) -> list[int]:
        """How many keys each query sees."""
        return [old + query + 1 for new, old in self.requests for query in range(new)]

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


def _implementation(backend, weight, indexer=None, scale=SCALE, value=VALUE, **changes):
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
