# SPDX-License-Identifier: Apache-2.0
"""The entries against the installed vLLM, and a capture in a group with our communicator."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from vllm.distributed.parallel_state import GraphCaptureContext, GroupCoordinator

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.communicator import KunlunCommunicator
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.ranks.patches import patches


class Stream:
    def __init__(self) -> None:
        self.waited: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited.append(other)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_reason: object) -> None: ...


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> Stream:
    now = Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: now)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    return now


def test_the_wheel_provides_them() -> None:
    found = patch_ledger.collect()
    assert [found[entry.name] for entry in patches()] == list(patches())


@pytest.mark.parametrize("entry", patches(), ids=lambda each: each.name)
def test_hashes_are_of_the_installed_vllm(entry) -> None:
    assert entry.holds(version.installed_vllm())
    assert source_sha256(entry.target) in entry.expected_sha256()


def test_a_group_captures_with_our_communicator(current: Stream) -> None:
    group = SimpleNamespace(device_communicator=object.__new__(KunlunCommunicator))
    context = GraphCaptureContext(Stream())
    with GroupCoordinator.graph_capture(group, context) as given:
        assert given is context
    assert context.stream.waited == [current]


def test_another_communicator_is_refused_by_vllm(current: Stream) -> None:
    """When this fails the patch has done its work and can go."""
    group = SimpleNamespace(device_communicator=object())
    with pytest.raises(AssertionError):
        GroupCoordinator.graph_capture(group, GraphCaptureContext(Stream())).__enter__()


@pytest.mark.parametrize("module", ["vllm.distributed", "vllm.v1.executor"])
def test_whatever_of_vllm_is_imported_first(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=300)
