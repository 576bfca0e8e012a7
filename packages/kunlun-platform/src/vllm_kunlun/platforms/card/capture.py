# SPDX-License-Identifier: Apache-2.0
"""The capture of a model's graphs, with one error that says where it failed."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from types import FrameType

from vllm.compilation.counter import compilation_counter
from vllm.compilation.cuda_graph import CUDAGraphWrapper
from vllm.config import CUDAGraphMode
from vllm.logger import init_logger
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from vllm_kunlun.platforms.card import capture_causes
from vllm_kunlun.platforms.errors import GraphCaptureError

__all__ = ["explained"]

logger = init_logger("vllm.kunlun.graphs")

_NO_PLACE = ("vllm_kunlun.platforms.", "vllm_kunlun.emulator.")
"""Code of ours that calls a piece or answers it, and is never what broke it."""


def explained(runner: GPUModelRunner) -> Callable[[], int]:
    """``capture_model`` of ``runner``, with an error that names the size, the piece and the place.

    Raises (when called):
        GraphCaptureError: the message ends with the cause, which is also its ``__cause__``.
    """
    capture_model = runner.capture_model

    def call() -> int:
        before = compilation_counter.num_cudagraph_captured
        try:
            held_bytes: int = capture_model()
        except Exception as error:
            raise GraphCaptureError(_describe(error)) from error
        asked = runner.compilation_config.cudagraph_mode != CUDAGraphMode.NONE
        if asked and compilation_counter.num_cudagraph_captured == before:
            logger.warning(
                "No graph was captured, though graphs are on: decoding is slower than it need be. "
                "`vllm-kunlun doctor` looks at what may be in the way; a model class of your own "
                "needs @support_torch_compile."
            )
        return held_bytes

    return call


def _describe(error: BaseException) -> str:
    cause = _first(error)
    frames = [*_frames(error), *_frames(cause)]
    found = [part for part in (_size(frames), _piece(frames), _place(frames)) if part]
    where = f" ({', '.join(found)})" if found else ""
    return (
        f"Capturing a graph failed{where}. To serve meanwhile, start with --enforce-eager. What it "
        "means: `vllm-kunlun doctor --log FILE`, where FILE holds what this start printed. Cause: "
        f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
    )


def _first(error: BaseException) -> BaseException:
    """The error that broke the capture, behind one that only tells that it is broken."""
    while error.__context__ is not None and capture_causes.is_an_after_effect(str(error)):
        error = error.__context__
    return error


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Frames and line numbers from the outermost to the innermost."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _size(frames: list[tuple[FrameType, int]]) -> str:
    for frame, _ in frames:
        if frame.f_code is GPUModelRunner._capture_cudagraphs.__code__:
            batch = frame.f_locals["batch_desc"]
            return f"{batch.num_tokens} tokens{' with LoRA' if batch.has_lora else ''}"
    return ""


def _piece(frames: list[tuple[FrameType, int]]) -> str:
    for frame, _ in frames:
        if frame.f_code is CUDAGraphWrapper.__call__.__code__:
            piece = frame.f_locals["self"].runnable
            return f"piece {piece.piecewise_compile_index + 1} of {piece.total_piecewise_compiles}"
    return "outside of the pieces"


def _place(frames: list[tuple[FrameType, int]]) -> str:
    """The innermost line of our layers; else the line of the traced graph."""
    for frame, line in reversed(frames):
        module = frame.f_globals.get("__name__", "")
        if module.startswith("vllm_kunlun.") and not module.startswith(_NO_PLACE):
            return f"{module}.{frame.f_code.co_name}, line {line}"
    for frame, line in reversed(frames):
        if frame.f_code.co_filename.startswith("<eval_with_key>"):
            text = linecache.getline(frame.f_code.co_filename, line, frame.f_globals)
            return f"at `{text.partition(';')[0].strip()}`"
    return ""
