# SPDX-License-Identifier: Apache-2.0
"""The rehearsal's tests want a process whose device is the rehearsed card from its start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from support import rehearsed


@pytest.fixture(scope="session", autouse=True)
def rehearsing() -> None:
    if os.environ["VLLM_KUNLUN_DEVICE"] != "rehearsal":
        pytest.skip(
            "a process has one device, and here it is not the rehearsed card: run "
            "`nox -s rehearsal`, or set VLLM_KUNLUN_DEVICE=rehearsal for this folder alone"
        )


@pytest.fixture(scope="session")
def plain() -> Iterator[ProcessPoolExecutor]:
    """A process beside this one, in which ``torch.cuda`` is torch's own."""
    with rehearsed.plain_process() as process:
        yield process


@pytest.fixture(scope="session")
def case(plain, tmp_path_factory) -> Callable[[str], rehearsed.Case]:
    """``case(kind)``: made and judged on first use."""
    made: dict[str, rehearsed.Case] = {}

    def get(kind: str) -> rehearsed.Case:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = plain.submit(rehearsed.make, kind, folder).result()
        return made[kind]

    return get
