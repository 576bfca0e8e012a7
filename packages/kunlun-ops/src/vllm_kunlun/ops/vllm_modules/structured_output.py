# SPDX-License-Identifier: Apache-2.0
"""A grammar's bit mask on a step's logits, in plain torch: on any device, batched.

vLLM's own way goes through xgrammar, which takes triton on a device of type ``cuda``, and through
pinned memory on every device.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.platforms import current_platform

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
    from vllm.v1.worker.gpu_input_batch import InputBatch

__all__ = ["apply_grammar_bitmask", "mask_logits"]


def apply_grammar_bitmask(
    scheduler_output: SchedulerOutput,
    grammar_output: GrammarOutput,
    input_batch: InputBatch,
    logits: Tensor,
) -> None:
    """Take the place of vLLM's function: :func:`mask_logits` for the requests that have a grammar.

    The scheduler gives one row of the mask for each row of logits of these requests (a request
    with ``n`` drafts has ``n + 1``), in an order of its own; a request that has left the batch is
    passed over. One copy brings rows and masks to the device, from pinned memory where it has any.

    Shapes: logits ``[R, V]``, in place.
    """
    drafts = scheduler_output.scheduled_spec_decode_tokens
    requests = grammar_output.structured_output_request_ids
    # Rows of each request in the logits, and of each request that has a grammar in its mask.
    held = np.array([1 + len(drafts.get(each, ())) for each in input_batch.req_ids], np.int64)
    masked = np.array([1 + len(drafts.get(each, ())) for each in requests], np.int64)
    first_row = dict(zip(input_batch.req_ids, (np.cumsum(held) - held).tolist(), strict=True))
    first = np.repeat(np.array([first_row.get(each, -1) for each in requests], np.int64), masked)
    ends = np.cumsum(masked)
    within = np.arange(len(first)) - np.repeat(ends - masked, masked)
    rows = first + within
    of_mask = np.repeat(_starts(masked, len(grammar_output.grammar_bitmask)), masked) + within
    present = np.flatnonzero(first >= 0)
    present = present[np.argsort(rows[present])]
    if not len(present):
        return
    masks = grammar_output.grammar_bitmask[of_mask[present]]
    packed = np.concatenate([rows[present, None].astype(masks.dtype), masks], axis=1)
    host = torch.from_numpy(packed)
    if current_platform.is_pin_memory_available():
        host = host.pin_memory()
    device = host.to(logits.device, non_blocking=True)
    every_row = len(present) == len(logits)  # in order, so they are masked where they are
    mask_logits(logits, device[:, 1:], None if every_row else device[:, 0])


def _starts(masked: np.ndarray, given: int) -> np.ndarray:
    """Where each request's rows begin among the ``given`` rows of the mask.

    Until 0.16 one request's follow another's; 0.33 keeps as many for each as the longest may need.
    """
    if given == masked.sum():
        return np.cumsum(masked) - masked
    return np.arange(len(masked)) * (given // len(masked))


def mask_logits(logits: Tensor, bitmask: Tensor, rows: Tensor | None = None) -> None:
    """``logits[rows[i], j] = -inf`` where bit ``j % 32`` of ``bitmask[i, j // 32]`` is 0; in place.

    Columns beyond the mask stay as they are, and so do the mask's bits beyond the vocabulary.

    Shapes: logits ``[R, V]``; bitmask int32 ``[n, words]``; rows int32 ``[n]``, each at most once,
    or None for all ``R = n`` in order.
    Source: the layout of xgrammar's ``allocate_token_bitmask``.
    """
    columns = min(logits.shape[1], 32 * bitmask.shape[1])
    octets = bitmask.contiguous().view(torch.uint8).view(-1).int()
    forbidden = _forbidden_bits(logits.device).index_select(0, octets).view(torch.bool)
    forbidden = forbidden.view(len(bitmask), -1)[:, :columns]
    if rows is None:
        logits[:, :columns].masked_fill_(forbidden, -torch.inf)
        return
    chosen = logits.index_select(0, rows)
    chosen[:, :columns].masked_fill_(forbidden, -torch.inf)
    logits.index_copy_(0, rows.long(), chosen)


@functools.cache
def _forbidden_bits(device: torch.device) -> Tensor:
    """int64 ``[256]``: byte ``i`` of entry ``b`` is 1 where bit ``i`` of ``b`` is 0.

    Looked up, eight bits become the eight bools of one number.
    """
    every_octet = np.frombuffer(bytes(range(256)), np.uint8)
    forbidden = 1 - np.unpackbits(every_octet, bitorder="little")
    return torch.from_numpy(forbidden.view(np.int64)).to(device)
