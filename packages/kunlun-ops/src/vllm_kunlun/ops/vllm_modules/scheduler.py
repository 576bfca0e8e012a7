# SPDX-License-Identifier: Apache-2.0
"""Which drafts a request is scheduled with; replaces a method of vLLM's scheduler by the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms.ledger import patch_ledger

if TYPE_CHECKING:  # imported while vLLM's modules are: none of them is there yet
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.outputs import DraftTokenIds

__all__ = ["update_draft_token_ids"]


def update_draft_token_ids(self: Scheduler, draft_token_ids: DraftTokenIds) -> None:
    """Keep drafts of those requests of which only the newest token is left to compute.

    A drafter also proposes after a piece of a prompt, where nothing can be right. Such drafts
    would be verified after the prompt's last piece, and a recurrent state cannot take the
    rejected ones back out.
    """
    for request_id, drafts in zip(
        draft_token_ids.req_ids, draft_token_ids.draft_token_ids, strict=True
    ):
        request = self.requests.get(request_id)
        if request is not None and request.num_computed_tokens + 1 < request.num_tokens:
            drafts.clear()
    patch_ledger.original("drafts-behind-pieces")(self, draft_token_ids)
