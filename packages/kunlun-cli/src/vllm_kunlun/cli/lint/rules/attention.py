# SPDX-License-Identifier: Apache-2.0
"""Attention that is none of vLLM's layers."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source

__all__ = ["RULE"]

_KERNELS = ("flash_attn", "flashinfer", "xformers", "vllm.vllm_flash_attn", "vllm._custom_ops",
            "vllm.triton_utils", "triton", "deep_gemm")  # fmt: skip


def check(source: Source) -> Iterator[Hit]:
    """Imports of kernels for NVIDIA's GPUs, and torch's own attention."""
    for node in source.of(cst.ImportFrom):
        module = source.module_of(node)
        names = [] if isinstance(node.names, cst.ImportStar) else node.names
        wanted = [module, *(f"{module}.{alias.evaluated_name}" for alias in names)]
        yield from _kernel(source, node, wanted)
    for plain in source.of(cst.Import):
        yield from _kernel(source, plain, [alias.evaluated_name for alias in plain.names])
    for call in source.calls("scaled_dot_product_attention"):
        if source.is_in_layer(call):
            yield Hit(call.func, "torch's attention is called, and no layer of vLLM's")


def _kernel(source: Source, node: cst.Import | cst.ImportFrom, names: list[str]) -> Iterator[Hit]:
    for name in names:
        if any(name == each or name.startswith(f"{each}.") for each in _KERNELS):
            if not source.is_guarded(node):
                yield Hit(node, f"{name} holds kernels for other devices")
            return


RULE = Rule(
    name="attention",
    finds="kernels of other devices, and attention that is not one of vLLM's layers",
    why="the platform puts its attention into vLLM's layers; what goes round them does not run on "
    "a card, or runs without the vendor's function",
    fix="use vllm_kunlun.ops.attention.layer.Attention, in an encoder MMEncoderAttention, of "
    "experts FusedMoE",
    check=check,
)
