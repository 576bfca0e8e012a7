# SPDX-License-Identifier: Apache-2.0
"""What becomes of a traced graph: it runs as it is, its ops called without torch's dispatcher.

A decode step of a small model calls some two hundred Python ops, and the dispatcher takes several
microseconds to find the one implementation that each of them has. The graph finds it once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import fx
from vllm.compilation.compiler_interface import EagerAdaptor

__all__ = ["OP", "KunlunCompiler", "call_directly"]

OP = "vllm_kunlun_op"


class KunlunCompiler(EagerAdaptor):  # type: ignore[misc]
    """vLLM's eager compiler, on a graph that :func:`call_directly` has been through."""

    name = "kunlun"

    runner: ClassVar[Callable[[fx.GraphModule], Callable[..., Any]] | None] = None
    """What runs a graph in its stead, if anything; a worker sets it before it loads a model."""

    def compile(
        self, graph: fx.GraphModule, *arguments: Any, **keywords: Any
    ) -> tuple[Callable[..., Any] | None, Any | None]:
        """See vLLM's ``CompilerInterface.compile``."""
        call_directly(graph)
        runnable, handle = super().compile(graph, *arguments, **keywords)
        runner = type(self).runner
        return runnable if runner is None else runner(graph), handle


def call_directly(graph: fx.GraphModule) -> int:
    """Let each call of an op that has one ``implementation`` for all devices call that function.

    The op itself stays in the node's ``meta``, under :data:`OP`. An op of this project carries the
    function as an attribute; of vLLM's ops it is known for attention. Right in inference alone: no
    autograd, no functionalisation.

    Returns:
        How many calls were changed.
    """
    known = _of_vllm()
    changed = 0
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        function = getattr(node.target, "implementation", None) or known.get(node.target)
        if function is not None:
            node.meta[OP] = getattr(node.target, "default", node.target)
            node.target = function
            changed += 1
    if changed:
        graph.recompile()
    return changed


def _of_vllm() -> dict[Any, Callable[..., Any]]:
    import torch

    from vllm_kunlun.platforms.vllm_compat.attention_layer import unified_attention_with_output

    packet = torch.ops.vllm.unified_attention_with_output
    return {
        packet: unified_attention_with_output,
        packet.default: unified_attention_with_output,
    }
