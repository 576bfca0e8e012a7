# SPDX-License-Identifier: Apache-2.0
"""One rank of many without the others, against vLLM's own questions."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("stage", "first", "last"), [(0, True, False), (1, False, False), (2, False, True)]
)
def test_a_stage_of_a_pipeline(stage, first, last):
    from vllm.distributed import parallel_state
    from vllm.distributed.utils import get_pp_indices

    from vllm_kunlun.platforms.ranks.silent import as_rank

    before = parallel_state._TP
    with as_rank(4, 3, stage):
        assert parallel_state.get_tensor_model_parallel_world_size() == 4
        assert parallel_state.get_tensor_model_parallel_rank() == 0
        pipeline = parallel_state.get_pp_group()
        assert (pipeline.is_first_rank, pipeline.is_last_rank) == (first, last)
        assert pipeline.rank_in_group == stage
        assert parallel_state.get_ep_group().device_group.size() == 4
        assert get_pp_indices(9, stage, 3) == (3 * stage, 3 * stage + 3)
    assert parallel_state._TP is before
