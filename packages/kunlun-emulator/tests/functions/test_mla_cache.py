# SPDX-License-Identifier: Apache-2.0
"""What the latent cache's functions refuse; their values are conformance cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.kunlun_ops import concat_and_cache_mla
from vllm_kunlun.emulator.xspeedgate_ops import (
    convert_req_index_to_global_index,
    gather_and_maybe_dequant_cache,
)


def write_call() -> dict[str, Any]:
    return {
        "kv_c": torch.randn(2, 24),
        "k_pe": torch.randn(2, 16),
        "slot_mapping": torch.tensor([3, 9]),
        "kv_cache": torch.zeros(4, 8, 40),
    }


def gather_call() -> dict[str, Any]:
    return {
        "src_cache": torch.randn(4, 8, 40),
        "dst": torch.zeros(12, 40),
        "block_table": torch.tensor([[1, 3], [2, 0]], dtype=torch.int32),
        "cu_seq_lens": torch.tensor([0, 9, 12], dtype=torch.int32),
        "batch_size": 2,
        "kv_cache_dtype": "auto",
        "scale": torch.ones(()),
        "seq_starts": torch.zeros(2, dtype=torch.int32),
    }


def indices_call() -> dict[str, Any]:
    return {
        "req_id": torch.tensor([0, 1], dtype=torch.int32),
        "block_table": torch.tensor([[1, 3], [2, 0]], dtype=torch.int32),
        "token_indices": torch.zeros(2, 3, dtype=torch.int32),
        "block_size": 8,
        "num_topk_tokens": 3,
    }


def column_major(x: Tensor) -> Tensor:
    return x.t().contiguous().t()


VIOLATIONS: list[tuple[Callable[..., Any], Callable[[], dict[str, Any]], str, Any]] = [
    (concat_and_cache_mla, write_call, "kv_c", column_major),
    (concat_and_cache_mla, write_call, "k_pe", Tensor.half),
    (concat_and_cache_mla, write_call, "k_pe", lambda x: x[:, :8].contiguous()),
    (concat_and_cache_mla, write_call, "slot_mapping", lambda x: x + 30),
    (concat_and_cache_mla, write_call, "slot_mapping", lambda x: x.int()),
    (concat_and_cache_mla, write_call, "kv_cache", lambda x: x[:, ::2]),
    (gather_and_maybe_dequant_cache, gather_call, "kv_cache_dtype", lambda _: "fp8"),
    (gather_and_maybe_dequant_cache, gather_call, "dst", lambda x: x[:5]),
    (gather_and_maybe_dequant_cache, gather_call, "dst", lambda x: x[:, :39].contiguous()),
    (gather_and_maybe_dequant_cache, gather_call, "block_table", lambda x: x + 3),
    (gather_and_maybe_dequant_cache, gather_call, "block_table", lambda x: x[:1]),
    (gather_and_maybe_dequant_cache, gather_call, "cu_seq_lens", lambda x: x.flip(0)),
    (gather_and_maybe_dequant_cache, gather_call, "seq_starts", lambda x: x + 8),
    (convert_req_index_to_global_index, indices_call, "req_id", lambda x: x + 1),
    (convert_req_index_to_global_index, indices_call, "token_indices", Tensor.long),
    (convert_req_index_to_global_index, indices_call, "token_indices", lambda x: x[:, :2]),
]


@pytest.mark.parametrize(
    ("function", "build", "argument", "change"),
    VIOLATIONS,
    ids=[f"{f.__name__}-{a}-{n}" for n, (f, _, a, _) in enumerate(VIOLATIONS)],
)
def test_refuses(function: Any, build: Any, argument: str, change: Any) -> None:
    call = build()
    function(**call)
    with pytest.raises(VendorContractError) as raised:
        function(**call | {argument: change(call[argument])})
    assert (raised.value.function, raised.value.argument) == (function.__name__, argument)
