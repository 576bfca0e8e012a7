# SPDX-License-Identifier: Apache-2.0
"""A gated delta net served step by step, as vLLM's runner drives it, against one pass over each
request: torch's convolution and HF transformers' delta rule.

Requests are random inputs of the layer. A step names, for each request, how many of its tokens come
and how many drafts that turn out wrong. Blocks that no request owns, or that nobody has written
yet, are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.attention_steps import speculation
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule
from vllm.config import VllmConfig
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.kv_cache_interface import MambaSpec

from vllm_kunlun.ops.gdn.gated_delta_net import GatedDeltaNet
from vllm_kunlun.ops.gdn.metadata import (
    KunlunGDNAttentionBackend,
    KunlunGDNMetadata,
    widest_step,
)
from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

KEY_HEADS, VALUE_HEADS, KEY_SIZE, VALUE_SIZE, WIDTH = 2, 6, 16, 8, 4


DIM = 2 * KEY_HEADS * KEY_SIZE + VALUE_HEADS * VALUE_SIZE


BLOCKS = 24


TOLERANCE = {torch.float32: 3e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}


def layer(dtype: torch.dtype) -> GatedDeltaNet:
    weight = torch.randn(DIM, WIDTH, generator=torch.Generator().manual_seed(3))
    return GatedDeltaNet(KEY_HEADS, VALUE_HEADS, KEY_SIZE, VALUE_SIZE, weight.to(dtype), None)


@dataclass
class Request:
    """Inputs of the layer for each token, rows of ``[L, ..]``."""

    mixed: Tensor
    beta: Tensor
    g: Tensor

    def expected(self, net: GatedDeltaNet) -> Tensor:
        """Outputs ``[L, HV, V]`` of one pass in float32."""
        padded = F.pad(self.mixed.float().T, (WIDTH - 1, 0)).unsqueeze(0)
        convolved = F.conv1d(padded, net.conv_weight.float().unsqueeze(1), groups=DIM)
        x = F.silu(convolved[0].T)
        keys = KEY_HEADS * KEY_SIZE
        q, k, v = x.split((keys, keys, VALUE_HEADS * VALUE_SIZE), -1)
        group = VALUE_HEADS // KEY_HEADS
        q, k = (y.view(1, -1, KEY_HEADS, KEY_SIZE).repeat_interleave(group, 2) for y in (q, k))
        v = v.view(1, -1, VALUE_HEADS, VALUE_SIZE)
        output, _ = torch_recurrent_gated_delta_rule(
            q, k, v, self.g.unsqueeze(0), self.beta.float().unsqueeze(0), initial_state=None,
            output_final_state=False, use_qk_l2norm_in_kernel=True,
        )  # fmt: skip
        return output[0]


def random(length: int, dtype: torch.dtype) -> Request:
    beta, g = (
        torch.rand(length, VALUE_HEADS).to(dtype),
        -F.softplus(torch.randn(length, VALUE_HEADS)),
    )
    return Request(torch.randn(length, DIM).to(dtype), beta, g)


class Served:
    """States and metadata of one layer over the steps of a few requests."""

    def __init__(self, lengths: list[int], dtype: torch.dtype, drafts: int = 0) -> None:
        torch.manual_seed(sum(lengths) + drafts)
        self.dtype, self.drafts, self.net = dtype, drafts, layer(dtype)
        self.requests = [self.random(length) for length in lengths]
        self.done = [0] * len(lengths)
        self.accepted = [1] * len(lengths)
        self.outputs: list[list[Tensor]] = [[] for _ in lengths]
        # One page holds both states, as in the runner.
        conv_shape = (WIDTH - 1 + drafts, DIM)
        state_shape = (VALUE_HEADS, VALUE_SIZE, KEY_SIZE)
        numbers = [torch.Size(shape).numel() for shape in (conv_shape, state_shape)]
        memory = torch.full((BLOCKS, sum(numbers) + 3), torch.nan, dtype=dtype)
        self.conv_states = memory[:, : numbers[0]].unflatten(1, conv_shape)
        self.states = memory[:, numbers[0] : sum(numbers)].unflatten(1, state_shape)
        blocks = torch.randperm(BLOCKS)[: len(lengths) * (1 + drafts)]
        self.table = blocks.view(len(lengths), -1).int()
        config = SimpleNamespace(
            speculative_config=speculation(drafts),
            compilation_config=VllmConfig().compilation_config,
            parallel_config=VllmConfig().parallel_config,
            scheduler_config=SimpleNamespace(max_num_seqs=8),
            cache_config=SimpleNamespace(mamba_cache_mode="none"),
            additional_config={},
            use_v2_model_runner=False,
            model_config=SimpleNamespace(hf_text_config=SimpleNamespace()),
        )
        spec = MambaSpec(block_size=1024, shapes=(conv_shape, state_shape), dtypes=(dtype, dtype))
        builder = KunlunGDNAttentionBackend.get_builder_cls()
        self.builder = builder(spec, ["layer"], config, torch.device("cpu"))  # type: ignore[arg-type]
        assert self.builder.reorder_batch_threshold == 1 + drafts

    def random(self, length: int) -> Request:
        return random(length, self.dtype)

    def metadata(
        self, rows: list[int], query_lens: list[int], drafts: list[int] | None = None
    ) -> KunlunGDNMetadata:
        starts = torch.tensor([0, *query_lens]).cumsum(0).int()
        computed = [self.done[row] for row in rows]
        seq_lens = torch.tensor(computed).int() + starts.diff()
        common = CommonAttentionMetadata(
            query_start_loc=starts,
            query_start_loc_cpu=starts.clone(),
            seq_lens=seq_lens,
            num_reqs=len(rows),
            num_actual_tokens=int(starts[-1]),
            max_query_len=max(query_lens),
            max_seq_len=int(seq_lens.max()),
            block_table_tensor=self.table[rows],
            slot_mapping=torch.zeros(0, dtype=torch.int64),
            **{SEQ_LENS: seq_lens.clone()},
        )
        told: dict[str, Any] = {}
        if drafts is not None and max(drafts) >= 0:
            told["num_accepted_tokens"] = torch.tensor([self.accepted[row] for row in rows])
            told["num_decode_draft_tokens_cpu"] = torch.tensor(drafts).int()
        return self.builder.build(0, common, **told)

    def step(self, *parts: tuple[int, int] | tuple[int, int, int]) -> KunlunGDNMetadata:
        """``(request, its next tokens)`` in the order of the batch, or with drafts ``(request,
        tokens that will stay, wrong drafts after them)``.
        """
        inputs, kept, drafts = [], [], []
        for row, tokens, *wrong in parts:
            own = self.requests[row]
            taken = slice(self.done[row], self.done[row] + tokens)
            guess = self.random(sum(wrong))
            inputs.append([torch.cat((getattr(own, name)[taken], getattr(guess, name)))
                           for name in ("mixed", "beta", "g")])  # fmt: skip
            kept.append(tokens)
            drafts.append(tokens - 1 + wrong[0] if wrong else -1)
        query_lens = [len(mixed) for mixed, _, _ in inputs]
        metadata = self.metadata([row for row, *_ in parts], query_lens, drafts)
        mixed, beta, g = (torch.cat(each) for each in zip(*inputs, strict=True))
        padding = 2
        output = torch.full((len(mixed) + padding, VALUE_HEADS, VALUE_SIZE), 7.0, dtype=self.dtype)
        mixed, beta, g = (
            F.pad(each, (0, 0, 0, padding), value=torch.nan) for each in (mixed, beta, g)
        )
        self.net.run(mixed, beta, g, self.conv_states, self.states, metadata, output)
        assert (output[-padding:] == 0).all()
        for (row, *_), tokens, drafted, part in zip(
            parts, kept, drafts, output[:-padding].split(query_lens), strict=True
        ):
            self.outputs[row].append(part[:tokens])
            self.done[row] += tokens
            self.accepted[row] = tokens if drafted >= 0 else 1  # as vLLM counts
        return metadata

    def check(self) -> None:
        for request, outputs, done in zip(self.requests, self.outputs, self.done, strict=True):
            came = torch.cat(outputs).float()
            expected = request.expected(self.net)[:done]
            torch.testing.assert_close(came, expected, rtol=0, atol=TOLERANCE[self.dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_prompts_in_one_piece_then_tokens(dtype: torch.dtype) -> None:
    served = Served([75, 9, 131], dtype)
    served.step((0, 70), (1, 4), (2, 129))
    for _ in range(2):
        metadata = served.step((0, 1), (1, 1), (2, 1))
        assert metadata.prefill is None
        assert metadata.decode is not None and metadata.decode.num_tokens == 3
    served.check()


def test_prompts_in_pieces_beside_tokens() -> None:
    """Ends of prompts that are one token long, and a fresh prompt that is one token long."""
    served = Served([30, 80, 6, 3], torch.float32)
    served.step((0, 25))
    served.step((0, 1), (1, 66))
    served.step((0, 1), (1, 1), (2, 3))
    metadata = served.step((1, 1), (0, 1), (2, 3), (3, 1))
    assert metadata.decode is not None and metadata.decode.num_tokens == 2
    assert metadata.prefill is not None
    assert metadata.prefill.known.tolist() == [1, 0]
    served.step((3, 1), (1, 1))
    served.check()


def test_only_fresh_prompts_of_one_token() -> None:
    """vLLM's own split takes these for decodes, and would read what the block held before."""
    served = Served([3, 3], torch.float32)
    metadata = served.step((0, 1), (1, 1))
    assert metadata.decode is None
    served.step((1, 1), (0, 1))
    served.check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_drafts(dtype: torch.dtype) -> None:
    """None, some or all drafts right; requests without drafts; prompts beside them."""
    served = Served([60, 40, 75, 20], dtype, drafts=2)
    served.step((0, 30), (1, 2))
    served.step((0, 1, 2), (1, 3, 0))
    served.step((0, 2, 1), (1, 1), (2, 66))
    served.step((1, 2, 0), (2, 1, 2), (0, 3, 0), (3, 3))
    served.step((0, 1), (1, 1, 1), (2, 2, 1), (3, 1, 2))
    metadata = served.step((3, 2, 1), (2, 1), (1, 3), (0, 2))
    assert metadata.prefill is None
    served.check()


def test_last_piece_of_a_prompt_among_drafts() -> None:
    served = Served([40, 12], torch.float32, drafts=2)
    served.step((0, 20), (1, 5))
    served.step((1, 2), (0, 1, 2))  # two tokens of a prompt, as short as a token and a draft
    served.step((0, 1, 2), (1, 3))
    served.step((0, 2, 1), (1, 1, 1))
    served.check()


def test_a_step_without_word_of_accepted_tokens() -> None:
    """vLLM tells them only where some request has drafts: all states are in the first block."""
    served = Served([10, 9], torch.float32, drafts=2)
    served.step((0, 4), (1, 3))
    served.step((0, 1), (1, 3))
    served.step((0, 2, 1), (1, 1))
    served.check()


def test_blocks_follow_the_sequence_where_prefixes_are_cached() -> None:
    """Mode "align": the state is in the block of the last token, not in the first."""
    served = Served([8], torch.float32)
    served.builder.vllm_config.cache_config.mamba_cache_mode = "align"
    served.builder.kv_cache_spec = MambaSpec(
        block_size=4, shapes=served.builder.kv_cache_spec.shapes,
        dtypes=served.builder.kv_cache_spec.dtypes,
    )  # fmt: skip
    served.table = torch.tensor([[5, 9]], dtype=torch.int32)
    first, then = served.metadata([0], [4]), served.metadata([0], [5])
    assert first.prefill is not None and first.prefill.state_indices.tolist() == [5]
    assert then.prefill is not None and then.prefill.state_indices_host.tolist() == [9]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_widest_step_runs_on_a_pool_of_one_block(dtype: torch.dtype) -> None:
    net, tokens = layer(dtype), 70
    whole = random(tokens, dtype)
    inputs = [whole.mixed, whole.beta, whole.g]
    output = torch.full((tokens, VALUE_HEADS, VALUE_SIZE), torch.nan, dtype=dtype)
    conv_states = torch.zeros(1, WIDTH - 1, DIM, dtype=dtype)
    states = torch.zeros(1, VALUE_HEADS, VALUE_SIZE, KEY_SIZE, dtype=dtype)
    net.run(*inputs, conv_states, states, widest_step(tokens, 8, torch.device("cpu")), output)
    assert output.isfinite().all()
    lengths = [1] * 7 + [63]
    wanted = [
        Request(*parts).expected(net)
        for parts in zip(*(each.split(lengths) for each in inputs), strict=True)
    ]
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(output.float(), torch.cat(wanted), atol=tolerance, rtol=tolerance)
