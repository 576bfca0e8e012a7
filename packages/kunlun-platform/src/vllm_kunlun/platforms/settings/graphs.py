# SPDX-License-Identifier: Apache-2.0
"""Which graphs are captured: the pieces between attention ops, on a card; none elsewhere.

A full graph would hold attention, whose lengths are arguments on the host: it would repeat those of
the step in which it was captured.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vllm.logger import init_logger

if TYPE_CHECKING:
    from vllm.config import CompilationConfig, CUDAGraphMode

__all__ = ["update"]

logger = init_logger("vllm.kunlun.configuration")


def update(compilation: CompilationConfig, *, on_card: bool) -> None:
    """Lower ``cudagraph_mode`` to PIECEWISE or NONE, and say so in one line where it was more."""
    from vllm.config import CUDAGraphMode

    if compilation.use_inductor_graph_partition:
        logger.warning(
            "use_inductor_graph_partition of --compilation-config is turned off: no code is "
            "generated for this device. Graphs are cut at splitting_ops instead."
        )
    compilation.use_inductor_graph_partition = False
    compilation.cudagraph_mode = _lowered(compilation) if on_card else CUDAGraphMode.NONE
    if compilation.cudagraph_mode == CUDAGraphMode.NONE:
        compilation.cudagraph_capture_sizes = []
        compilation.max_cudagraph_capture_size = 0
        # vLLM fills this in together with the capture sizes, and only on a device with graphs.
        compilation.compile_sizes = compilation.compile_sizes or []


def _lowered(compilation: CompilationConfig) -> CUDAGraphMode:
    from vllm.config import CompilationMode, CUDAGraphMode

    asked = compilation.cudagraph_mode
    if asked in (None, CUDAGraphMode.NONE):
        return CUDAGraphMode.NONE
    full = asked.has_full_cudagraphs()
    if compilation.mode not in (None, CompilationMode.VLLM_COMPILE):
        # vLLM has said so of modes with pieces.
        if full and not asked.has_piecewise_cudagraphs():
            logger.warning(
                "cudagraph_mode %s: nothing is captured. Of a full graph only the pieces between "
                "attention ops are captured here, and compilation mode %s makes none: leave the "
                "mode out, or set it to 3.",
                asked,
                compilation.mode.name,
            )
        return CUDAGraphMode.NONE
    if full:
        # vLLM itself chooses the one with pieces, which is nothing to warn of.
        level = logging.INFO if asked.has_piecewise_cudagraphs() else logging.WARNING
        logger.log(
            level,
            "cudagraph_mode %s is run as PIECEWISE: a full graph holds attention, and would repeat "
            "the lengths of the step in which it was captured.",
            asked,
        )
    return CUDAGraphMode.PIECEWISE
