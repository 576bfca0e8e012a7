# SPDX-License-Identifier: Apache-2.0
"""A step with drafts, as a drafter finds it."""

from __future__ import annotations

from itertools import accumulate

import torch
from vllm.v1.attention.backend import CommonAttentionMetadata

from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

VOCABULARY = 50


DRAFTS = [2, 0, 3, 1, 0]


QUERIES = [3, 7, 4, 2, 1]
"""Drafts and the token before them; the second is a piece of a prompt, the last plain decoding."""


ENDS = [40, 7, 25, 9, 3]


def step(lengths: list[int] = ENDS) -> CommonAttentionMetadata:
    query_lod = torch.tensor([0, *accumulate(QUERIES)], dtype=torch.int32)
    return CommonAttentionMetadata(
        query_start_loc=query_lod,
        query_start_loc_cpu=query_lod.clone(),
        seq_lens=torch.tensor(lengths, dtype=torch.int32),
        num_reqs=len(QUERIES),
        num_actual_tokens=sum(QUERIES),
        max_query_len=max(QUERIES),
        max_seq_len=max(lengths),
        block_table_tensor=torch.zeros(len(QUERIES), 4, dtype=torch.int32),
        slot_mapping=torch.arange(sum(QUERIES)),
        **{SEQ_LENS: torch.tensor(lengths, dtype=torch.int32)},
    )
