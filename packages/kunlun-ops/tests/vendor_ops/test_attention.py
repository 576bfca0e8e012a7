# SPDX-License-Identifier: Apache-2.0
"""The attention adapter passes each argument as the contract says."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from support.recorder import Recorder

from vllm_kunlun.emulator import kunlun_ops
from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract import findings
from vllm_kunlun.ops.vendor_ops import library

PREFILL = (
    "q k v out is_causal alpha context_qlen_lod_cpu context_qlen_lod_xpu alibi_slopes softmax_lse "
    "swa_left swa_right sink"
)


PREFILL_ON_CACHE = "is_prefix_cache block_table context_kvlen_lod_cpu context_kvlen_lod_xpu"


@pytest.mark.parametrize("on_cache", [False, True])
def test_prefill_arguments(on_cache: bool, recorders: dict[str, Recorder]) -> None:
    """On packed keys the arguments of the paged mode are left out, not passed as None."""
    names = PREFILL.split() + (PREFILL_ON_CACHE.split() if on_cache else [])
    passed: dict[str, Any] = {name: name for name in names}
    if on_cache:
        passed["is_prefix_cache"] = True
    vendor_ops.prefill_attention(**passed)
    assert recorders["kunlun_ops"].calls == [("prefill_attention", (), passed)]


def test_a_merge_that_wants_the_heads_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other form of the card finding: transposed on the way in and out."""
    call = [torch.randn(5, 3, 8), torch.randn(5, 3), torch.randn(5, 3, 8), torch.randn(5, 3)]
    first, second = ([torch.empty(5, 3, 8), torch.empty(5, 3)] for _ in range(2))
    vendor_ops.attention_merge_stage(*call, *first)

    def heads_first(*args: torch.Tensor) -> None:
        lses = [args[index].T.contiguous() for index in (1, 3, 5)]
        kunlun_ops.attention_merge_stage(args[0], lses[0], args[2], lses[1], args[4], lses[2])
        args[5].copy_(lses[2].T)

    monkeypatch.setattr(findings, "chosen", {"merge-lse": "heads-first"}.get)
    with library.use_libraries(kunlun_ops=types.SimpleNamespace(attention_merge_stage=heads_first)):
        vendor_ops.attention_merge_stage(*call, *second)
    torch.testing.assert_close(first, second)
