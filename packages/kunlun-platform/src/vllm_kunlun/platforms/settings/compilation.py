# SPDX-License-Identifier: Apache-2.0
"""Compilation: graphs that run as they were traced, in pieces where a card captures them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from vllm.logger import init_logger

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.settings import graphs, splitting_ops

if TYPE_CHECKING:
    from vllm.config import CompilationConfig

__all__ = ["COMPILER", "turn_off_what_does_not_fit", "update"]

logger = init_logger("vllm.kunlun.configuration")

COMPILER = "vllm_kunlun.platforms.compiler.KunlunCompiler"

_FUSIONS = ("fuse_", "enable_")
"""How vLLM's names of the passes that fuse layers begin, whichever there are."""


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
    compilation.custom_ops = [
        name for name in compilation.custom_ops if name not in ("none", "all")
    ]
    compilation.custom_ops.append("all")
    for field in fields(compilation.pass_config):
        if field.name.startswith(_FUSIONS):
            setattr(compilation.pass_config, field.name, False)
    # A graph that runs as it was traced holds functions of this process: there is nothing to store.
    envs.set_default("VLLM_USE_AOT_COMPILE", "0")
    graphs.update(compilation, on_card=on_card)
    splitting_ops.update(compilation, on_card=on_card)
