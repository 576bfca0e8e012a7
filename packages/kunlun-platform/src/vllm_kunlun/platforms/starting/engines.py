# SPDX-License-Identifier: Apache-2.0
"""vLLM's start of an engine's processes, with an error that says why it failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from vllm_kunlun.platforms.errors import EngineStartError
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.starting import cause

__all__ = ["launch_core_engines"]


@contextlib.contextmanager
def launch_core_engines(*args: Any, **keywords: Any) -> Iterator[Any]:
    """As vLLM's.

    Raises:
        EngineStartError: a process ended before it was ready; the message is what it ended with.
    """
    original = patch_ledger.original("engine-start")
    with cause.awaited() as found:
        try:
            with original(*args, **keywords) as started:
                yield started
        except RuntimeError:
            if (text := found()) is None:
                raise
            # The traceback of whoever waits tells nothing, and would come between.
            raise EngineStartError(f"the engine did not start: {text}") from None
