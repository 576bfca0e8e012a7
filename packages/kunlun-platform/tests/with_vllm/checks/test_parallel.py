# SPDX-License-Identifier: Apache-2.0
"""Ways of spreading the work that are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vllm_kunlun.platforms.checks import parallel
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (
            {"tensor_parallel_size": 2, "decode_context_parallel_size": 2},
            ["context parallelism", "--tensor-parallel-size"],
        ),
        ({"enable_dbo": True}, ["--enable-dbo", "Leave it out"]),
        (
            {"all2all_backend": "deepep_low_latency"},
            ["--all2all-backend deepep_low_latency", "Leave it out"],
        ),
    ],
    ids=["context", "dbo", "exchange"],
)
def test_refused(build: Any, options: dict[str, Any], sentences: list[str]) -> None:
    message = build.refusal(**options)
    for sentence in sentences:
        assert sentence in message


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_context_parallelism_of_either_phase(phase: str) -> None:
    sizes = {f"{each}_context_parallel_size": 1 for each in ("decode", "prefill")}
    spread = SimpleNamespace(**sizes, enable_dbo=False, all2all_backend=parallel.EXCHANGES[0])
    parallel.check(SimpleNamespace(parallel_config=spread))  # type: ignore[arg-type]
    setattr(spread, f"{phase}_context_parallel_size", 2)
    with pytest.raises(UnsupportedError, match="context parallelism"):
        parallel.check(SimpleNamespace(parallel_config=spread))  # type: ignore[arg-type]


def cards(**changes: Any) -> None:
    spread = {"nnodes_within_dp": 1, "use_ray": False, "data_parallel_rank_local": None}
    spread |= {"local_world_size": 2, "data_parallel_size_local": 2, **changes}
    config = SimpleNamespace(parallel_config=SimpleNamespace(**spread))
    parallel.check_cards(config)  # type: ignore[arg-type]


def test_as_many_ranks_as_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    cards()  # no variable, no limit
    monkeypatch.setenv("XPU_VISIBLE_DEVICES", "4,5,6")
    with pytest.raises(UnsupportedError, match=r"4 ranks .*DEVICES=4,5,6 names 3\."):
        cards()
    cards(data_parallel_size_local=1)
    cards(data_parallel_rank_local=1)  # in the engine, which sees its own alone
    cards(use_ray=True)
