# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` says of graphs: whether any will be captured, and why a capture failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from vllm_kunlun.cli.check import Check
from vllm_kunlun.platforms import device, envs
from vllm_kunlun.platforms.card import capture_causes
from vllm_kunlun.platforms.ledger import patch_ledger

__all__ = ["check_log", "check_settings"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_OURS = re.compile(r"\bGraphCaptureError: (?P<message>.+)")
_BEGIN = re.compile(r"Capturing (CUDA graph|a cudagraph)")
_END = re.compile(r"Graph capturing finished.*")
_ERROR = re.compile(r"(?P<message>\b(\w+\.)*\w*(Error|Exception): .+)")
_NONE = re.compile(r"No graph was captured, though graphs are on")
_OFF = re.compile(r"Cudagraph is disabled under eager mode|Skipping CUDA graph capture")


def check_settings() -> Iterator[Check]:
    """Whether anything on this machine keeps graphs from being captured."""
    found = device.detect()
    if found.kind == "emulated":
        yield Check("graphs", "ok", "none: the emulated device captures nothing, a card does")
    if not found.is_card:
        return
    reasons = list(_in_the_way())
    for detail, fix in reasons:
        yield Check("graphs", "warn", detail, fix)
    if not reasons:
        from vllm_kunlun.platforms.settings import splitting_ops

        yield Check(
            "graphs",
            "ok",
            f"captured in pieces, which end at any of {len(splitting_ops.required())} ops",
        )


def _in_the_way() -> Iterator[tuple[str, str]]:
    if patch_ledger.left_out():
        yield "none is captured: compilation is turned off", "see the lines of patches"
    if envs.XMLIR_ENABLE_MOCK_TORCH_COMPILE:
        yield (
            "none is captured: XMLIR_ENABLE_MOCK_TORCH_COMPILE makes torch.compile a no-op, and "
            "only what it has cut into pieces is captured",
            "unset XMLIR_ENABLE_MOCK_TORCH_COMPILE, or set it to false",
        )
    if envs.XMLIR_FORCE_USE_XPU_GRAPH is False:
        yield (
            "XMLIR_FORCE_USE_XPU_GRAPH=0: the vendor's runtime does not run captured graphs on "
            "the device",
            "unset XMLIR_FORCE_USE_XPU_GRAPH, or set it to 1",
        )


def check_log(lines: Iterable[str]) -> Iterator[Check]:
    """What a log of a start tells of its graphs: the failure and what it means, or that none was.

    The error of a card's worker is taken where there is one; else the first error between the
    beginning and the end of a capture, which another plugin or an older version may have written.
    A card's worker warns where graphs are on and the model's class lets none be captured.
    """
    began = False
    first, last = "", "it tells of no capture"
    for line in lines:
        text = _COLOUR.sub("", line)
        if ours := _OURS.search(text):
            yield _failure(ours["message"])
            return
        if _NONE.search(text):
            yield Check(
                "capture",
                "warn",
                "graphs are on, and none was captured: the model's class is not compiled",
                "decorate the class of the decoder with @support_torch_compile (vllm-kunlun lint "
                "finds its place); plain doctor looks at what else may be in the way",
            )
            return
        if _OFF.search(text):
            last = "graphs are off: --enforce-eager, or cudagraph_mode NONE"
        elif end := _END.search(text):
            began, first, last = False, "", end[0].strip()
        began = began or _BEGIN.search(text) is not None
        if began and not first and (error := _ERROR.search(text)):
            first = error["message"]
    if first:
        yield _failure(first)
    elif began:
        yield Check(
            "capture",
            "fail",
            "the log ends while graphs are being captured, without an error",
            "look at the end of each worker's log, and at what the system's log says of a process "
            "that was killed; to serve meanwhile, start with --enforce-eager",
        )
    else:
        yield Check("capture", "ok", f"no capture failed in the log: {last}")


def _failure(message: str) -> Check:
    words = message.partition("Cause: ")[2] or message
    cause = capture_causes.explain(words)
    if cause is None:
        meaning = "no known kind of failure"
        fix = (
            "report it with this log; VLLM_KUNLUN_DEVICE=rehearsal captures the same graphs "
            "without a card, and shows whether the fault is in a layer"
        )
    else:
        meaning, fix = cause.meaning, cause.fix
    return Check(
        "capture",
        "fail",
        f"{meaning}. The log says: {message.strip()}",
        f"{fix}; to serve meanwhile, start with --enforce-eager",
    )
