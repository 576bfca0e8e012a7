# SPDX-License-Identifier: Apache-2.0
"""The ledger entries for servers of several ranks."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.entries import Entry, Patch
from vllm_kunlun.platforms.version import EVERY, V0_15, V0_16, V0_33

__all__ = ["patches"]


def patches() -> Sequence[Entry]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        Patch(
            name="communicator-of-captures",
            target="vllm.distributed.device_communicators.cuda_communicator:CudaCommunicator",
            replacement="vllm_kunlun.platforms.communicator:KunlunCommunicator",
            why="before two ranks capture a graph, their group asserts that its communicator is of "
            "this class, which is imported for that alone on a platform out of tree",
            upstream="https://github.com/vllm-project/vllm/blob/v0.15.1/vllm/distributed/"
            "device_communicators/cuda_communicator.py",
            vllm_range=EVERY,
            sha256={
                V0_15: "1f847ea2bb37c0d6243ca2bf48e8b9e8c787c4fcb2bcca8520bdccd7a993ccc5",
                V0_16: "58d37acd031f732eb6d6f471d450360570a79d62029f8f5a71be7a9136e4d943",
                V0_33: "2306c25029598c91973e185f5040934fc7fc341e53ce389f1c2ee89417e85c2a",
            },
            remove_when="a group asks its communicator, of any class, for the context of a capture",
        ),
    )
