# SPDX-License-Identifier: Apache-2.0
"""Options of vLLM's compilation that torch before 2.6 cannot honour and that nothing here mends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms import torch25, version
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import CompilationConfig

__all__ = ["check"]


def check(compilation: CompilationConfig) -> None:
    """Refuse what would fail in the middle of the first compilation, or of a later step.

    This torch keeps every guard, since its ``torch.compile`` has no ``guard_filter_fn``; a guard
    that fails compiles anew, which vLLM's backend does not allow. vLLM's bytecode hook calls the
    compiled code past its guards, so it has to stay on.

    Raises:
        UnsupportedError: naming the option, what came and the alternative.
    """
    from vllm import envs
    from vllm.config import CompilationMode
    from vllm.config.compilation import DynamicShapesType

    if compilation.mode == CompilationMode.NONE or not torch25.is_installed():
        return
    shapes = compilation.dynamic_shapes_config
    if shapes.type != DynamicShapesType.BACKED:
        raise UnsupportedError(
            f"dynamic_shapes_config.type={shapes.type.value!r} of --compilation-config needs "
            f"{_of_later_torch()} Leave it at 'backed', or use --enforce-eager."
        )
    if shapes.evaluate_guards:
        raise UnsupportedError(
            "dynamic_shapes_config.evaluate_guards=true of --compilation-config needs "
            f"{_of_later_torch()} Leave it out, or use --enforce-eager."
        )
    if envs.VLLM_USE_AOT_COMPILE:
        raise UnsupportedError(
            f"VLLM_USE_AOT_COMPILE=1 needs {_of_later_torch()} Unset it, or use --enforce-eager."
        )
    if compilation.mode == CompilationMode.VLLM_COMPILE and not envs.VLLM_USE_BYTECODE_HOOK:
        raise UnsupportedError(
            f"VLLM_USE_BYTECODE_HOOK=0 needs {_of_later_torch()} Unset it, or use --enforce-eager."
        )


def _of_later_torch() -> str:
    return f"what torch has from 2.6 on, and torch {version.installed_torch()} is installed."
