# SPDX-License-Identifier: Apache-2.0
"""The ledger entries for servers of several ranks, and for how a server ends."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.entries import Entry, Patch

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
            vllm_range=">=0.15.1,<0.16",
            sha256="1f847ea2bb37c0d6243ca2bf48e8b9e8c787c4fcb2bcca8520bdccd7a993ccc5",
            remove_when="a group asks its communicator, of any class, for the context of a capture",
        ),
        Patch(
            name="exit-code-of-servers",
            target="vllm.entrypoints.launcher:serve_http",
            replacement="vllm_kunlun.platforms.ranks.server_end:serve_http",
            why="a server whose engine has died, or a worker of it, ends with exit code 0, so that "
            "what supervises it does not start it again",
            upstream="https://github.com/vllm-project/vllm/blob/v0.15.1/vllm/entrypoints/"
            "launcher.py",
            vllm_range=">=0.15.1,<0.16",
            sha256="fdf54751c344c8502c784026a757629ca06c59785a00091ea41cbd5da0908ec2",
            remove_when="a server whose engine has died ends with another exit code than 0",
        ),
    )
