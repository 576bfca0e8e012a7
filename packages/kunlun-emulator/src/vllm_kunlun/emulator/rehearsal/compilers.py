# SPDX-License-Identifier: Apache-2.0
"""What a compiler computes with the tensors that torch.compile shows it."""

from __future__ import annotations

from typing import Any

from vllm_kunlun.emulator.rehearsal.devices import OnHost
from vllm_kunlun.emulator.rehearsal.watch import Watch

__all__ = ["watched"]


def watched(compile_graph: Any) -> Any:
    """``compile_graph`` with its ops watched: Dynamo takes a thread's modes away while it compiles.

    A buffer that a compiler copies from an example of the device's is thus the device's, too.
    """

    def call(*arguments: Any, **keywords: Any) -> Any:
        with Watch(OnHost()):
            return compile_graph(*arguments, **keywords)

    return call
