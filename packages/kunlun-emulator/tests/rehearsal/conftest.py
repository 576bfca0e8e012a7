# SPDX-License-Identifier: Apache-2.0
"""The rehearsal inside one test: its names, its modes and the vendor's watched functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import counts, facade, graphs, installation, threads
from vllm_kunlun.ops.torch_ops.vllm_names import weak_ref_tensor
from vllm_kunlun.platforms import version

if version.lies_in(version.V0_33):
    # The card's worker is refused there, by name, and so there is nothing to rehearse.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for holder, name, value in facade.replacements():
        monkeypatch.setattr(holder, name, value)
    with installation.watched_libraries(), threads.watched():
        yield


class Piece:
    """Captures what it wraps at the first call and replays it later, by the names that vLLM has."""

    def __init__(self, runnable: Callable[..., Any]) -> None:
        self.runnable = runnable
        self.graph: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                results = self.runnable(*args, **kwargs)
            self.results = weak_ref_tensor(results)
            return results
        self.graph.replay()
        return self.results


@pytest.fixture
def piece(rehearsal: None) -> type[Piece]:
    """A class whose objects are captured graphs around a function of tensors."""
    return Piece


@pytest.fixture
def asked(rehearsal: None) -> Callable[[], dict[tuple[str, str], int]]:
    """How often each thing was asked for since the last call: (kind, name) -> times."""
    before = counts.snapshot()

    def since() -> dict[tuple[str, str], int]:
        nonlocal before
        now = counts.snapshot()
        new = {(each.kind, each.name): n for each, n in (now - before).items()}
        before = now
        return new

    return since


@pytest.fixture(autouse=True)
def _no_graph_is_left() -> Iterator[None]:
    yield
    assert graphs.active() is None
