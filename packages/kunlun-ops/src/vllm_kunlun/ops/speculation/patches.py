# SPDX-License-Identifier: Apache-2.0
"""What vLLM's drafters do by triton kernels, and a defect of its scheduler, as ledger entries."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.patch_ledger import Patch

__all__ = ["patches"]

_OURS = "vllm_kunlun.ops.vllm_modules.spec_decode"
_VLLM = "https://github.com/vllm-project/vllm/blob/v0.15.1/vllm/v1/"
_SOURCE = f"{_VLLM}spec_decode/"
_RANGE = ">=0.15.1,<0.16"
_REMOVE = "vLLM's drafters have a path without triton"


def patches() -> Sequence[Patch]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        Patch(
            name="drafter-next-tokens",
            target="vllm.v1.spec_decode.eagle:SpecDecodeBaseProposer.prepare_next_token_ids_padded",
            replacement=f"{_OURS}:prepare_next_token_ids_padded",
            why="it launches a triton kernel, and before that reads lengths one request at a time",
            upstream=f"{_SOURCE}eagle.py",
            vllm_range=_RANGE,
            sha256="39fbd989318827f72ede86e821d5d189da32ec27377f9d063052ce7fe9efb9c8",
            remove_when=_REMOVE,
        ),
        Patch(
            name="drafter-last-accepted",
            target="vllm.v1.spec_decode.utils:eagle_prepare_inputs_padded_kernel",
            replacement=f"{_OURS}:last_accepted_kernel",
            why="a triton kernel",
            upstream=f"{_SOURCE}utils.py",
            vllm_range=_RANGE,
            sha256="423608ffc15af97f5062ccf70b6272c36f15624d6f5f924c61ef7d1311305cc6",
            remove_when=_REMOVE,
        ),
        Patch(
            name="drafter-merge-tokens",
            target="vllm.v1.spec_decode.draft_model:merge_toks_kernel",
            replacement=f"{_OURS}:merge_tokens_kernel",
            why="a triton kernel",
            upstream=f"{_SOURCE}draft_model.py",
            vllm_range=_RANGE,
            sha256="0d6ba83c9bd68a6c04869cb5533f7fe54401146a7aacd8ef27630ab0c6e770b4",
            remove_when=_REMOVE,
        ),
        Patch(
            name="drafts-behind-pieces",
            target="vllm.v1.core.sched.scheduler:Scheduler.update_draft_token_ids",
            replacement="vllm_kunlun.ops.vllm_modules.scheduler:update_draft_token_ids",
            why="drafts proposed behind a piece of a prompt are verified behind its last piece: "
            "none can be right, and a recurrent state keeps those that were rejected",
            upstream=f"{_VLLM}core/sched/scheduler.py",
            vllm_range=_RANGE,
            sha256="3fc10a0f94de7dc68b690add4950a3fa890bcb8b0819a25509f4370750c09d65",
            remove_when="vLLM's scheduler ignores drafts of requests that still read their prompt",
        ),
    )
