# SPDX-License-Identifier: Apache-2.0
"""What breaks a graph's capture: the words of the error, what they mean, and what to do."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["CAUSES", "Cause", "explain", "is_an_after_effect"]


class Cause(NamedTuple):
    """One kind of failure: the words that tell it (a pattern), its meaning, the next step."""

    words: str
    meaning: str
    fix: str


_CUT = (
    "end the pieces at the op that does it, in vLLM's name for it: --compilation-config "
    '\'{"splitting_ops": ["vllm::the_op"]}\' (what is required is added)'
)
_AFTER_EFFECT = r"previous error during capture|StreamCaptureInvalidated"

CAUSES = (
    Cause(
        r"out of memory|OutOfMemory",
        "the graphs did not fit into what weights and cache leave of the device",
        "lower --gpu-memory-utilization, or capture fewer sizes: --max-cudagraph-capture-size 64",
    ),
    Cause(
        r"weak_ref_tensor",
        "the op by which vLLM drops a piece's outputs is not registered",
        "see `entry points vllm.general_plugins` above: kunlun-custom-ops registers it, unless "
        "VLLM_PLUGINS leaves it out",
    ),
    Cause(
        r"another stream|StreamCapture(Isolation|Unjoined|Merge|Unmatched)|unjoined work",
        "work was started on a second stream, and the captured one did not wait for it",
        "set VLLM_DISABLE_SHARED_EXPERTS_STREAM=1, which keeps shared experts on the first",
    ),
    Cause(
        r"stream is capturing|StreamCapture(Unsupported|Implicit)|"
        r"during (CUDA )?graph capture unless|implicitly depend|HostReadInCapture",
        "a piece waits for the device, which a capture forbids: a value is read on the host "
        "(.item(), .tolist(), .cpu(), an if of a tensor), or memory that is not pinned is copied",
        _CUT,
    ),
    Cause(
        r"capturing detected at an inappropriate",
        "a batch had a size that was not captured at the start",
        "let the sizes of --compilation-config be vLLM's own",
    ),
    Cause(
        r"[Ii]nput addresses for cudagraphs",
        "an input of a piece lies elsewhere than when it was captured",
        _CUT,
    ),
    Cause(
        r"VendorContractError",
        "a function of the vendor's was called with what it does not take; the message names it",
        "report it with this log",
    ),
    Cause(
        _AFTER_EFFECT,
        "an earlier call broke the capture, and this error only tells that it is broken",
        "look for the first error above it in the log",
    ),
)


def explain(text: str) -> Cause | None:
    """The first of :data:`CAUSES` whose words are in ``text``; None if none is known."""
    return next((cause for cause in CAUSES if re.search(cause.words, text)), None)


def is_an_after_effect(text: str) -> bool:
    """Whether ``text`` tells only that a capture had been broken before."""
    return re.search(_AFTER_EFFECT, text) is not None
