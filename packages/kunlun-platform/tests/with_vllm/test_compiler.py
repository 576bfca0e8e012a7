# SPDX-License-Identifier: Apache-2.0
"""Ops of a graph are called without the dispatcher, and give what they gave with it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode

from vllm_kunlun.platforms.compiler import OP, KunlunCompiler, call_directly

_library = torch.library.Library("kunlun_compiler_test", "DEF")
_library.define("double_(Tensor(a!) x) -> ()")
_library.define("plain(Tensor x) -> Tensor")


def _double(x: torch.Tensor) -> None:
    x.mul_(2)


_library.impl("double_", _double, "CompositeExplicitAutograd")
_library.impl("plain", torch.neg, "CompositeExplicitAutograd")
double_ = torch.ops.kunlun_compiler_test.double_.default
double_.implementation = _double


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def traced() -> fx.GraphModule:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.call_function(double_, (x,))
    graph.output(graph.call_function(torch.ops.kunlun_compiler_test.plain.default, (x,)))
    return fx.GraphModule(torch.nn.Module(), graph)


def run(module: Callable[..., torch.Tensor]) -> tuple[list[float], list[str]]:
    with Seen() as seen, torch.inference_mode():
        result = module(torch.tensor([1.0, -2.0]))
    return result.tolist(), seen.names


def test_an_op_that_names_its_implementation_is_not_dispatched() -> None:
    module = traced()
    before, dispatched = run(module)
    assert "kunlun_compiler_test::double_" in dispatched
    assert call_directly(module) == 1
    after, dispatched = run(module)
    assert before == after == [-2.0, 4.0]
    assert "kunlun_compiler_test::double_" not in dispatched
    assert "kunlun_compiler_test::plain" in dispatched


@pytest.mark.parametrize("overload", ["packet", "default"])
def test_attention_of_vllm_is_known(overload: str) -> None:
    from vllm_kunlun.platforms.vllm_compat.attention_layer import unified_attention_with_output

    op = torch.ops.vllm.unified_attention_with_output
    graph = fx.Graph()
    graph.call_function(op if overload == "packet" else op.default, ())
    module = fx.GraphModule(torch.nn.Module(), graph)
    assert call_directly(module) == 1
    assert next(iter(module.graph.nodes)).target is unified_attention_with_output


def test_a_runner_takes_the_place_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    module, given = traced(), []

    def runner(graph: fx.GraphModule) -> Callable[..., Any]:
        given.append(graph)
        return torch.neg

    assert KunlunCompiler().compile(traced(), [], {}, None)[0] is not torch.neg
    monkeypatch.setattr(KunlunCompiler, "runner", staticmethod(runner))
    assert KunlunCompiler().compile(module, [], {}, None) == (torch.neg, None)
    assert given == [module]
    op = next(node for node in module.graph.nodes if node.target is _double)
    assert op.meta[OP] is double_
