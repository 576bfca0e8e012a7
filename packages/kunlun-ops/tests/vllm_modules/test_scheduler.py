# SPDX-License-Identifier: Apache-2.0
"""Which drafts a request is scheduled with."""

from __future__ import annotations

from types import SimpleNamespace

from vllm.platforms import current_platform
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import DraftTokenIds

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place


def test_drafts_behind_a_piece_of_a_prompt_are_dropped() -> None:
    def request(computed: int, tokens: int) -> SimpleNamespace:
        counts = {"num_computed_tokens": computed, "num_tokens": tokens}
        counts["is_prefill_chunk"] = computed + 1 < tokens  # what vLLM 0.16 reads
        return SimpleNamespace(**counts, is_finished=lambda: False, spec_token_ids=[])

    requests = {"piece": request(40, 90), "decode": request(89, 90), "whole": request(90, 91)}
    manager = SimpleNamespace(
        should_advance=lambda _: False,
        validate_tokens=lambda _, drafts: drafts,  # which 0.33 asks instead
    )
    scheduler = SimpleNamespace(requests=requests, structured_output_manager=manager)
    drafts = DraftTokenIds(["piece", "decode", "gone", "whole"], [[1, 2], [3, 4], [5, 6], [7, 8]])
    Scheduler.update_draft_token_ids(scheduler, drafts)
    assert {name: each.spec_token_ids for name, each in requests.items()} == {
        "piece": [],
        "decode": [3, 4],
        "whole": [7, 8],
    }
