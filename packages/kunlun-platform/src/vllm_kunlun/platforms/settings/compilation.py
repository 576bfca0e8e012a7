# SPDX-License-Identifier: Apache-2.0
"""Compilation: graphs that run as they were traced, in pieces where a card captures them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vllm.logger import init_logger

from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.ledger import patch_ledger

if TYPE_CHECKING:
    from vllm.config import CompilationConfig

__all__ = ["COMPILER", "SPLITTING_OPS", "turn_off_what_does_not_fit", "update"]

logger = init_logger("vllm.kunlun.configuration")

COMPILER = "vllm_kunlun.platforms.compiler.KunlunCompiler"

SPLITTING_OPS = "vllm_kunlun.splitting_ops"
"""Entry-point group of ops ``vllm::<name>`` that no graph may hold: they read host metadata."""

_FUSIONS = ("fuse_norm_quant", "fuse_act_quant", "fuse_attn_quant", "fuse_gemm_comms",
            "fuse_allreduce_rms", "enable_qk_norm_rope_fusion", "enable_sp")  # fmt: skip


def turn_off_what_does_not_fit(compilation: CompilationConfig) -> None:
    """Compile nothing where this torch is not the build that the ledger's entries were made for.

    The model then runs as with ``--enforce-eager``: slower, and as right.
    """
    from vllm.config import CompilationMode

    left_out = patch_ledger.left_out()
    if left_out and compilation.mode != CompilationMode.NONE:
        logger.warning(
            "Compilation is turned off: this build of torch differs from the one that %s were "
            "made for. `vllm-kunlun doctor` says where.",
            ", ".join(left_out),
        )
        compilation.mode = CompilationMode.NONE


def update(compilation: CompilationConfig, *, on_card: bool) -> None:
    """Graphs that run as they were traced: no inductor, no fusion pass, no captured attention."""
    from vllm.config import CompilationMode

    # vLLM asks the platform for its compiler only under a name that is not one of its own.
    own = compilation.mode in (None, CompilationMode.VLLM_COMPILE)
    compilation.backend = COMPILER if own else "eager"
    compilation.use_inductor_graph_partition = False
    compilation.custom_ops = [
        name for name in compilation.custom_ops if name not in ("none", "all")
    ]
    compilation.custom_ops.append("all")
    for name in _FUSIONS:
        setattr(compilation.pass_config, name, False)
    _split(compilation, on_card=on_card, own=own)
    _capture(compilation, on_card=on_card)


def _split(compilation: CompilationConfig, *, on_card: bool, own: bool) -> None:
    """A card captures the pieces between attention ops; an emulated device's graph stays whole."""
    if compilation.splitting_ops is not None:
        # The manual writes vllm.op; vLLM compares with vllm::op, and would not split there.
        compilation.splitting_ops = [
            re.sub(r"^vllm\.", "vllm::", name) for name in compilation.splitting_ops
        ]
    elif not on_card:
        compilation.splitting_ops = []
    elif own:
        # vLLM's own list, made here because it takes no further name.
        compilation.splitting_ops = [
            *compilation._attention_ops,
            "vllm::unified_kv_cache_update",
            *(f"vllm::{name}" for name in wheels.names(SPLITTING_OPS)),
        ]


def _capture(compilation: CompilationConfig, *, on_card: bool) -> None:
    """Host-side lengths are arguments of attention functions: a full graph would freeze them."""
    from vllm.config import CompilationMode, CUDAGraphMode

    mode = compilation.cudagraph_mode
    if not on_card or mode is None or compilation.mode == CompilationMode.NONE:
        compilation.cudagraph_mode = CUDAGraphMode.NONE
        compilation.cudagraph_capture_sizes = []
        compilation.max_cudagraph_capture_size = 0
        # vLLM fills this in together with the capture sizes, and only on a device with graphs.
        compilation.compile_sizes = compilation.compile_sizes or []
    elif mode.has_full_cudagraphs():
        compilation.cudagraph_mode = CUDAGraphMode.PIECEWISE
